/** Convert query results to Grafana data frames. */

import { FieldType, rangeUtil, type DataFrame, type Field, type TimeRange } from '@grafana/data';
import { type Panel, type Target } from './dashboard';
import { fillIn, toNumber, type Exemplar, type Prometheus, type Series } from './prometheus';
import { interpolate, type VariableValues, type Scope } from './variables';

export interface QueryResult {
  frames: DataFrame[];
  exemplars: Exemplar[];
  /** Ref ids of queries without data. */
  missing: string[];
}

const FEWEST_POINTS = 100;

export async function request(
  panel: Panel,
  width: number,
  prometheus: Prometheus,
  variableValues: VariableValues,
  range: TimeRange,
): Promise<QueryResult> {
  const points = panel.maxDataPoints ?? Math.max(FEWEST_POINTS, Math.floor(width));
  const results = await Promise.all(
    (panel.targets ?? []).map((target) => queryTarget(target, points, panel, prometheus, variableValues, range)),
  );
  return {
    frames: results.flatMap((one) => one.frames),
    exemplars: results.flatMap((one) => one.exemplars),
    missing: results.flatMap((one) => one.missing),
  };
}

async function queryTarget(
  target: Target,
  points: number,
  panel: Panel,
  prometheus: Prometheus,
  variableValues: VariableValues,
  range: TimeRange,
): Promise<QueryResult> {
  const least = target.interval ?? panel.interval ?? '15s';
  const step = Math.round(rangeUtil.calculateInterval(range, points, least).intervalMs / 1000);
  const expr = interpolate(target.expr, variableValues, macros(step, rangeUtil.intervalToMs(least) / 1000, range));
  const [start, end] = [range.from.valueOf() / 1000, range.to.valueOf() / 1000];
  if (target.instant) {
    const series = await prometheus.instant(expr, end);
    const frames =
      target.format === 'table'
        ? tableOf(target, series, valueName(target, panel))
        : series.map((one) => frameOf(target, one));
    return queryResultOf(target, frames);
  }
  const times = grid(start, end, step);
  const series = await prometheus.range(expr, times[0], times[times.length - 1], step);
  const exemplars = target.exemplar ? await prometheus.exemplars(expr, start, end) : [];
  return queryResultOf(
    target,
    series.map((one) => frameOf(target, onGrid(one, times), step)),
    exemplars,
  );
}

function queryResultOf(target: Target, frames: DataFrame[], exemplars: Exemplar[] = []): QueryResult {
  return { frames, exemplars, missing: frames.length ? [] : [target.refId] };
}

/** `$__rate_interval` as in Grafana: at least four scrapes, and one more than the step. */
function macros(step: number, scrape: number, range: TimeRange): Scope {
  const seconds = Math.round((range.to.valueOf() - range.from.valueOf()) / 1000);
  return {
    __interval: `${step}s`,
    __rate_interval: `${Math.max(step + scrape, 4 * scrape)}s`,
    __range: `${seconds}s`,
  };
}

/** Align the range to multiples of the step, as Grafana does. */
function grid(start: number, end: number, step: number): number[] {
  const first = Math.floor(start / step);
  return Array.from({ length: Math.floor(end / step) - first + 1 }, (_, number) => (first + number) * step);
}

/** Fill times without a value with NaN, which is drawn as a gap. */
function onGrid({ metric, values }: Series, times: number[]): Series {
  const known = new Map(values);
  return { metric, values: times.map((time) => [time, known.get(time) ?? '']) };
}

function frameOf(target: Target, { metric, values }: Series, step?: number): DataFrame {
  const time: Field = {
    name: 'Time',
    type: FieldType.time,
    config: step ? { interval: 1000 * step } : {},
    values: values.map(([moment]) => 1000 * moment),
  };
  const value: Field = {
    name: 'Value',
    type: FieldType.number,
    labels: metric,
    config: { displayNameFromDS: nameOf(target, metric) },
    values: values.map(([, text]) => (text === '' ? null : toNumber(text))),
  };
  return { refId: target.refId, length: values.length, fields: [time, value] };
}

function nameOf(target: Target, metric: Series['metric']): string {
  const { __name__: name = '', ...labels } = metric;
  const text = Object.entries(labels)
    .map(([label, value]) => `${label}="${value}"`)
    .join(', ');
  return target.legendFormat ? fillIn(target.legendFormat, metric) : `${name}{${text}}`;
}

/** Distinguish the values of several queries after their tables are merged. */
function valueName(target: Target, panel: Panel): string {
  return (panel.targets ?? []).length > 1 ? `Value #${target.refId}` : 'Value';
}

/** Return a table with one row per series and one column per label; empty without series. */
function tableOf(target: Target, series: Series[], valueName: string): DataFrame[] {
  const labels = [...new Set(series.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const texts: Field[] = labels.map((label) => ({
    name: label,
    type: FieldType.string,
    config: {},
    values: series.map(({ metric }) => metric[label] ?? ''),
  }));
  const value: Field = {
    name: valueName,
    type: FieldType.number,
    config: {},
    values: series.map(({ values }) => toNumber(values[0][1])),
  };
  return series.length ? [{ refId: target.refId, length: series.length, fields: [...texts, value] }] : [];
}
