// Monitoring mixin with the same dashboards and rules as the files, for deployments with jsonnet.
{
  grafanaDashboards+:: {
    'late-overview.json': import 'dashboards/late-overview.json',
    'late-platform.json': import 'dashboards/late-platform.json',
    'late-accounts.json': import 'dashboards/late-accounts.json',
    'late-exporter.json': import 'dashboards/late-exporter.json',
  },

  prometheusRules+:: std.parseYaml(importstr '../deploy/prometheus/late-exporter.rules.yml'),

  prometheusAlerts+:: std.parseYaml(importstr '../deploy/prometheus/late-exporter.alerts.yml'),
}
