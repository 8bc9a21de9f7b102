// Dashboards with the identifiers, titles and variables of the configuration.
local f = import 'functions.libsonnet';
local defaults = import 'mixin/defaults.libsonnet';

local files = {
  'late-overview.json': import 'dashboards/late-overview.json',
  'late-platform.json': import 'dashboards/late-platform.json',
  'late-accounts.json': import 'dashboards/late-accounts.json',
  'late-exporter.json': import 'dashboards/late-exporter.json',
};

local prefix = 'Late / ';

{
  names:: ['overview', 'platform', 'accounts', 'exporter'],

  // The places of identifiers in links.
  ids(config):: [['/d/late-' + name, '/d/' + config.dashboardIds[name]] for name in $.names],

  render(config, changes, runbookUrl):: {
    [name]:
      local pairs =
        [[defaults.runbookUrl % '${__data.fields.alertname:percentencode}', runbookUrl]]
        + $.ids(config)
        + (if config.showMultiCluster then clusterPairs(config) else []);
      local document = f.change(files[name], std.get(changes, name, {}));
      local dashboard = f.mapStrings(document, function(text) f.replace(text, pairs));
      dashboard {
        uid: config.dashboardIds[std.split(std.split(name, '.')[0], '-')[1]],
        title: config.dashboardNamePrefix + dashboard.title[std.length(prefix):],
        tags: config.dashboardTags,
        links: [link { tags: config.dashboardTags } for link in dashboard.links],
      }
      + (if config.showMultiCluster then { templating+: { list: withVariable(config, dashboard.templating.list) } } else {})
    for name in std.objectFields(files)
  },

  // Queries and links select and keep the cluster wherever they do so with the job.
  local clusterPairs(config) =
    local label = config.clusterLabel;
    [
      ['job=~"$job|"', label + '=~"$cluster|", job=~"$job|"'],
      ['job=~"$job"', label + '=~"$cluster", job=~"$job"'],
      ['on (job', 'on (%s, job' % label],
      ['by (job', 'by (%s, job' % label],
      ['late_exporter_build_info|late_up"}', 'late_exporter_build_info|late_up", %s=~"$cluster"}' % label],
      ['${job:queryparam}', '${cluster:queryparam}&${job:queryparam}'],
    ],

  // The variable for the cluster comes before that for the job, which depends on it.
  local withVariable(config, variables) =
    local job = [variable for variable in variables if variable.name == 'job'][0];
    local cluster = job {
      name: 'cluster',
      label: 'Cluster',
      query: 'label_values(late_exporter_build_info, %s)' % config.clusterLabel,
    };
    [variables[0], cluster] + variables[1:],
}
