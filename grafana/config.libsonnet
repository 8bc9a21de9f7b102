// The configuration of the mixin. Change it by adding an object with `_config+::` to the mixin. The names are those of
// `prometheusRule` in the values of the Helm chart.
local defaults = import 'mixin/defaults.libsonnet';

{
  _config+:: {
    // Matchers for all series of the exporters, for example 'job="social"'. Empty for every series that begins with
    // late_; then only exporters in jobs named late or late-... are missed before their first successful scrape.
    selector: '',

    // Label that distinguishes clusters, which rules keep if the series have it; '' for no label.
    clusterLabel: 'cluster',
    // Whether dashboards have a variable for the cluster, and descriptions of alerts its name.
    showMultiCluster: false,

    // Share of publish attempts that should succeed over 30 days.
    objective: defaults.objective,
    // Other objectives, the first that matches applies, for example
    // [{ workspace: 'gold', objective: 0.999 }, { platform: 'tiktok', objective: 0.95 }].
    // Workspace and platform are exact values, and may be combined. Dashboards show and color by the one above.
    objectives: [],

    // Numbers in the alerts and in the colors of the dashboards, see deploy/prometheus/thresholds.py.
    thresholds: defaults.thresholds,

    // Profile: 'full', or 'essential' for the few alerts that page first and notice if the exporter itself fails.
    profile: 'full',
    // Alerts to leave out, by name. These two need the feed api_request.
    disabled: ['LateApiFailing', 'LateApiThrottled'],
    // Changes of alerts by name, merged into every alert of that name; null removes a field. For example
    // { LateApiDrift: { 'for': '1h', labels: { severity: 'info' } } }.
    overrides: {},
    // More labels of all alerts.
    alertLabels: {},

    // Address of Grafana, for the annotation dashboard_url; '' for the annotation dashboard_path.
    grafanaUrl: '',
    // Address of a runbook, with %s for the name of the alert, or of the folder of the runbooks.
    runbookUrl: defaults.runbookUrl,

    // Tags of the dashboards; the menu links the dashboards that have all of them.
    dashboardTags: ['late-exporter'],
    dashboardNamePrefix: 'Late / ',
    // Identifiers in links to the dashboards.
    dashboardIds: {
      overview: 'late-overview',
      platform: 'late-platform',
      accounts: 'late-accounts',
      exporter: 'late-exporter',
    },
  },
}
