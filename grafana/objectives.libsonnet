// Objectives of single workspaces and platforms.
local f = import 'functions.libsonnet';

local selectors(one) = std.filter(function(name) std.objectHas(one, name), ['platform', 'workspace']);

local OBJECTIVE = 'slo:late_publishing_success:objective';
local FINAL = 'late_publishing_final_logs:increase';
// The share of attempts that a workspace may fail, for the platforms that it uses.
local BUDGET = 'workspace:late_publishing_error_budget:ratio';

// The attempts that may fail. Of several values for the same platform of the same workspace, the operator `or` takes the
// first.
local allowed(config, level, window) =
  local final = 'platform:%s%s' % [FINAL, window];
  local matchers(one) = std.join(', ', ['%s=%s' % [name, std.escapeStringJson(one[name])] for name in selectors(one)]);
  local parts = [
    '%s{%s} * %s' % [final, matchers(one), f.num(1 - one.objective)]
    for one in config.objectives
  ] + ['%s * %s' % [final, f.num(1 - config.objective)]];
  '%s(\n  %s\n)' % [if level == 'platform' then '' else 'sum without (platform) ', std.join('\nor\n  ', parts)];

{
  check(config)::
    local all = [{ objective: config.objective }] + config.objectives;
    local wrong = [one for one in all if !(one.objective > 0 && one.objective < 1)];
    local vague = [one for one in config.objectives if selectors(one) == []];
    if wrong != [] then error 'late-exporter mixin: an objective is a number between 0 and 1: %s' % f.num(wrong[0].objective)
    else if vague != [] then error 'late-exporter mixin: objectives need a workspace or a platform: %s' % [vague[0]]
    else std.all([f.check('fields of objectives:', std.objectFields(one), ['objective', 'platform', 'workspace']) for one in all]),

  // The error budget of a workspace in alerts.
  budget(config, cluster)::
    if config.objectives == [] then f.num(f.round(1 - config.objective, 10))
    else 'on (%sjob, workspace) %s' % [cluster, BUDGET],

  // The recording rules that a rule becomes.
  records(config, rule)::
    local burn = std.split(rule.record, ':late_publishing_error_budget:burnrate');
    if config.objectives == [] then [rule]
    else if rule.record == OBJECTIVE then [rule] + [
      { record: OBJECTIVE, expr: 'vector(%s)' % f.num(one.objective), labels: { [name]: one[name] for name in selectors(one) } }
      for one in config.objectives
    ]
    else if rule.record == 'workspace:' + FINAL + '6h' then [
      rule,
      { record: BUDGET, expr: '%s\n/\n(%s > 0)\n' % [allowed(config, 'workspace', '6h'), rule.record] },
    ]
    else if std.length(burn) == 2 then [rule {
      expr: '%s:late_publishing_failed_logs:increase%s\n/\n(%s > 0)\n' % [burn[0], burn[1], allowed(config, burn[0], burn[1])],
    }]
    else [rule],

  // Descriptions name the objective of all workspaces, unless there are others.
  describe(config, text)::
    if config.objectives == [] then text
    else std.strReplace(text, '%s %% success' % f.num(100 * config.objective), 'its objective'),
}
