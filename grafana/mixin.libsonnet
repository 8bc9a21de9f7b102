// Monitoring mixin: the dashboards and rules of late-exporter as functions of `_config`, see config.libsonnet. Without
// changes they equal the shipped files.
local dashboards = import 'dashboards.libsonnet';
local f = import 'functions.libsonnet';
local dashboardTemplates = import 'mixin/dashboards.libsonnet';
local defaults = import 'mixin/defaults.libsonnet';
local essentialTemplates = import 'mixin/essential.libsonnet';
local furtherTemplates = import 'mixin/further.libsonnet';
local ruleTemplates = import 'mixin/rules.libsonnet';
local objectives = import 'objectives.libsonnet';

(import 'config.libsonnet') {
  local config = $._config,

  local isJob(matcher) = std.member(['job=', 'job!'], std.stripChars(matcher, ' ')[:4]),
  local hasJob = std.length(std.filter(isJob, std.split(config.selector, ','))) > 0,
  local exporters = std.join(', ', std.filter(
    function(part) part != '',
    [config.selector, if hasJob then '' else 'job=~"%s"' % defaults.jobs],
  )),
  // What the templates refer to.
  local context = config {
    matchers: if config.selector == '' then '' else config.selector + ', ',
    braces: if config.selector == '' then '' else '{%s}' % config.selector,
    cluster: if config.clusterLabel == '' then '' else config.clusterLabel + ', ',
    clusterName: if config.clusterLabel == '' then 'cluster' else config.clusterLabel,
    exporters: exporters,
  },
  local isAlert(rule) = std.objectHas(rule, 'alert'),
  local essential = essentialTemplates(context).groups,
  local further = furtherTemplates(context).groups,
  local alertNames = [rule.alert for group in essential + further for rule in group.rules if isAlert(rule)],

  assert f.check('keys of _config:', std.objectFields(config), std.objectFields((import 'config.libsonnet')._config)),
  assert f.check('profile', [config.profile], ['essential', 'full']),
  assert f.check('thresholds', std.objectFields(config.thresholds), std.objectFields(defaults.thresholds)),
  assert f.check('alerts in disabled:', config.disabled, alertNames),
  assert f.check('alerts in overrides:', std.objectFields(config.overrides), alertNames),
  assert f.check('dashboards in dashboardIds:', std.objectFields(config.dashboardIds), dashboards.names),
  assert objectives.check(config),
  assert !std.startsWith(config.selector, '{') : 'late-exporter mixin: selector has no braces: %s' % config.selector,
  assert !config.showMultiCluster || config.clusterLabel != '' : 'late-exporter mixin: showMultiCluster needs clusterLabel',

  local runbookUrl(name) =
    if f.contains(config.runbookUrl, '%s') then config.runbookUrl % name
    else '%s/%s.md' % [std.rstripChars(config.runbookUrl, '/'), name],

  local dashboardPath(path) =
    local moved = f.replace(path, dashboards.ids(config));
    if !config.showMultiCluster then moved
    else '%s%svar-cluster={{ $labels.%s | urlquery }}' % [moved, if f.contains(moved, '?') then '&' else '?', config.clusterLabel],

  local annotations(alert) =
    local path = dashboardPath(alert.annotations.dashboard_path);
    alert.annotations {
      description:
        (if config.showMultiCluster then '{{ with $labels.%s }}Cluster {{ . }}: {{ end }}' % config.clusterLabel else '')
        + objectives.describe(config, alert.annotations.description),
      runbook_url: runbookUrl(alert.alert),
      dashboard_path: if config.grafanaUrl == '' then path,
      dashboard_url: if config.grafanaUrl != '' then std.rstripChars(config.grafanaUrl, '/') + path,
    },

  local adapt(alert) =
    local adapted = alert { labels+: config.alertLabels, annotations: std.prune(annotations(alert)) };
    std.mergePatch(adapted, std.get(config.overrides, alert.alert, {})),

  grafanaDashboards+:: dashboards.render(config, dashboardTemplates(context), runbookUrl('${__data.fields.alertname:percentencode}')),

  // The rules that a rule becomes: none if it is left out.
  local adaptRule(rule) =
    if !isAlert(rule) then objectives.records(config, rule)
    else if std.member(config.disabled, rule.alert) then []
    else [adapt(rule)],
  local groups(templates) = std.filter(
    function(group) std.length(group.rules) > 0,
    [group { rules: std.flatMap(adaptRule, group.rules) } for group in templates],
  ),

  prometheusRules+:: { groups: groups(ruleTemplates(context).groups) },

  prometheusAlerts+:: { groups: groups(essential + if config.profile == 'full' then further else []) },
}
