// Monitoring mixin: the shipped rules and dashboards as they are. Change what you need with Jsonnet, for example
//
//   local late = import 'github.com/late-exporter/late-exporter/grafana/mixin.libsonnet';
//   late { _config+:: { exclude: ['LateScheduleEmpty'], labels: { team: 'social' } } }
//
// There is no selector: the rules are plain PromQL, which Jsonnet cannot parse. They match what is called late_ in every
// job; docs/alerts.md says how to leave a job out.
{
  _config:: {
    // Names of alerts to leave out. An unknown one is an error.
    exclude: [],
    // Labels to add to all alerts. They replace labels of the same name.
    labels: {},
  },

  local config = self._config,
  local shipped = std.parseYaml(importstr '../deploy/prometheus/late-exporter.alerts.yml').groups,
  local names = std.set([rule.alert for group in shipped for rule in group.rules]),
  local unknown = std.setDiff(std.set(config.exclude), names),
  local alert(rule) = rule { labels+: config.labels },

  prometheusRules:: std.parseYaml(importstr '../deploy/prometheus/late-exporter.rules.yml'),
  prometheusAlerts::
    assert unknown == [] :
           '_config.exclude: there is no alert %s; the alerts are %s' % [unknown[0], std.join(', ', names)];
    {
      groups: [
        group { rules: [alert(rule) for rule in group.rules if !std.member(config.exclude, rule.alert)] }
        for group in shipped
      ],
    },
  grafanaDashboards:: {
    'late-overview.json': import 'dashboards/late-overview.json',
    'late-platform.json': import 'dashboards/late-platform.json',
    'late-accounts.json': import 'dashboards/late-accounts.json',
    'late-exporter.json': import 'dashboards/late-exporter.json',
  },
}
