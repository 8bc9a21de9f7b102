/** Events from the annotations of a dashboard. */

import { rangeUtil, type TimeRange } from '@grafana/data';
import { type AnnotationQuery } from './dashboard';
import { fillIn, type Prometheus, type Series } from './prometheus';
import { interpolate, type VariableValues } from './variables';

/** Times in milliseconds; start and end of an instantaneous event are equal. */
export interface Event {
  title: string;
  color: string;
  begin: number;
  end: number;
}

export async function events(
  queries: AnnotationQuery[],
  prometheus: Prometheus,
  variableValues: VariableValues,
  range: TimeRange,
): Promise<Event[]> {
  const result = await Promise.all(
    queries
      .filter((query) => query.enable)
      .map(async (query) => {
        const step = rangeUtil.intervalToSeconds(query.step ?? '60s');
        const [start, end] = [range.from.unix(), range.to.unix()].map((time) => Math.floor(time / step) * step);
        const series = await prometheus.range(interpolate(query.expr, variableValues), start, end, step);
        return series.flatMap((one) => (query.useValueForTime ? instantEvents(query, one) : periodEvents(query, one, 1000 * step)));
      }),
  );
  const [first, last] = [range.from.valueOf(), range.to.valueOf()];
  return result.flat().filter((event) => event.begin >= first && event.begin <= last);
}

/** One event per time given as a value. */
function instantEvents(query: AnnotationQuery, { metric, values }: Series): Event[] {
  const times = [...new Set(values.map(([, text]) => Number(text)))];
  return times.map((time) => ({ ...queryAnnotation(query, metric), begin: time, end: time }));
}

/** One event per contiguous period. */
function periodEvents(query: AnnotationQuery, { metric, values }: Series, step: number): Event[] {
  const periods: Event[] = [];
  for (const [moment] of values) {
    const time = 1000 * moment;
    const open = periods.at(-1);
    if (open && time - open.end <= step) {
      open.end = time;
    } else {
      periods.push({ ...queryAnnotation(query, metric), begin: time, end: time });
    }
  }
  return periods;
}

function queryAnnotation(query: AnnotationQuery, labels: Series['metric']): Pick<Event, 'title' | 'color'> {
  return { title: fillIn(query.titleFormat ?? query.name, labels), color: query.iconColor };
}
