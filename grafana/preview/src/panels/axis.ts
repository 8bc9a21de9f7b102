/** Time axis of panels that are not Grafana components. */

import { dateTimeFormat, type TimeRange } from '@grafana/data';

const STEPS_MINUTES = [5, 10, 30, 60, 180, 720, 1440];
const MOST_TICKS = 8;

export interface Tick {
  time: number;
  text: string;
}

export function ticks(range: TimeRange): Tick[] {
  const [from, to] = [range.from.valueOf(), range.to.valueOf()];
  const minutes = STEPS_MINUTES.find((step) => (to - from) / (60_000 * step) <= MOST_TICKS) ?? 10_080;
  const step = 60_000 * minutes;
  const format = minutes < 1440 ? 'HH:mm' : 'MM-DD';
  const first = Math.ceil(from / step);
  return Array.from({ length: Math.floor(to / step) - first + 1 }, (_, number) => {
    const time = (first + number) * step;
    return { time, text: dateTimeFormat(time, { format, timeZone: 'utc' }) };
  });
}

/** Return the horizontal position of a time. */
export function place(time: number, range: TimeRange, width: number): number {
  const [from, to] = [range.from.valueOf(), range.to.valueOf()];
  return ((time - from) / (to - from)) * width;
}
