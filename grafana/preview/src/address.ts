/** Settings from the URL of the page: `?dashboard=late-overview&prometheus=http://127.0.0.1:9090&theme=light&rows=open`. */

import { dateMath, dateTime, type DateTime, type TimeRange } from '@grafana/data';

export interface Address {
  dashboard: string;
  prometheus: string;
  theme: 'dark' | 'light';
  /** Whether to open rows that are collapsed. */
  rowsOpen: boolean;
  /** Undefined for the time range of the dashboard. */
  from?: string;
  to?: string;
  variables: Map<string, string[]>;
}

export function readAddress(search: string): Address {
  const query = new URLSearchParams(search);
  const names = [...new Set([...query.keys()].filter((name) => name.startsWith('var-')))];
  return {
    dashboard: query.get('dashboard') ?? 'late-overview',
    prometheus: query.get('prometheus') ?? 'http://127.0.0.1:9090',
    theme: query.get('theme') === 'light' ? 'light' : 'dark',
    rowsOpen: query.get('rows') === 'open',
    from: query.get('from') ?? undefined,
    to: query.get('to') ?? undefined,
    variables: new Map(names.map((name) => [name.slice('var-'.length), query.getAll(name)])),
  };
}

/** Parse a range of Unix times in milliseconds or of Grafana expressions such as `now-6h`. */
export function timeRange(from: string, to: string): TimeRange {
  return { from: moment(from, false), to: moment(to, true), raw: { from, to } };
}

function moment(text: string, roundUp: boolean): DateTime {
  return /^\d+$/.test(text) ? dateTime(Number(text)) : dateMath.toDateTime(text, { roundUp })!;
}
