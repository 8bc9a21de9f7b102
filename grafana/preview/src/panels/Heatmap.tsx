import { formattedValueToString, getValueFormat, type DataFrame, type GrafanaTheme2 } from '@grafana/data';
import { useTheme2 } from '@grafana/ui';
import * as schemes from 'd3-scale-chromatic';
import { useEffect, useRef } from 'react';
import { toNumber } from '../prometheus';
import { place, ticks } from './axis';
import { DASH } from './marks';
import { type PanelProps } from './props';

const LEFT = 64;
const RIGHT = 8;
const AXIS_HEIGHT = 22;
const TOP = 6;
const DOT = 2.5;

/** Non-cumulative count of a bucket at each time. */
interface Band {
  bound: number;
  times: number[];
  counts: number[];
}

/** Replaces Grafana's component, which is not part of @grafana/ui. */
export function Heatmap(props: PanelProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const theme = useTheme2();
  useEffect(() => draw(canvas.current!, props, theme), [props, theme]);
  return <canvas ref={canvas} style={{ width: props.width, height: props.height }} />;
}

/** Convert cumulative buckets. */
function bandsOf(frames: DataFrame[]): Band[] {
  const buckets = frames.map(({ fields: [time, value] }) => ({
    bound: toNumber(value.labels?.le ?? ''),
    times: time.values,
    sums: value.values.map((sum: number | null) => sum ?? 0),
  }));
  buckets.sort((one, other) => one.bound - other.bound);
  return buckets.map(({ bound, times, sums }, at) => {
    const below = buckets[at - 1]?.sums;
    return { bound, times, counts: sums.map((sum: number, i: number) => Math.max(0, sum - (below?.[i] ?? 0))) };
  });
}

function draw(canvas: HTMLCanvasElement, props: PanelProps, theme: GrafanaTheme2): void {
  const { panel, frames, events, exemplars, range, width, height } = props;
  const { color, filterValues, yAxis } = panel.options;
  const bands = bandsOf(frames);
  const [plotWidth, plotHeight] = [width - LEFT - RIGHT, height - AXIS_HEIGHT - TOP];
  const row = plotHeight / bands.length;
  const x = (time: number) => LEFT + place(time, range, plotWidth);
  const y = (band: number) => TOP + plotHeight - (band + 1) * row;
  const shade = shades(color.scheme, theme);
  const most = Math.max(...bands.flatMap((band) => band.counts));

  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  const ctx = canvas.getContext('2d')!;
  ctx.scale(devicePixelRatio, devicePixelRatio);
  ctx.font = `12px ${theme.typography.fontFamily}`;
  bands.forEach(({ times, counts }, band) => {
    const cell = x(times[1]) - x(times[0]);
    counts.forEach((count, at) => {
      if (count > (filterValues?.le ?? 0) && times[at] >= range.from.valueOf()) {
        ctx.fillStyle = shade((count / most) ** color.exponent);
        ctx.fillRect(x(times[at]), y(band), Math.max(1, cell - 1), row - 1);
      }
    });
  });

  ctx.fillStyle = theme.colors.text.primary;
  for (const exemplar of exemplars) {
    const band = bands.findIndex(({ bound }) => toNumber(exemplar.value) <= bound);
    ctx.beginPath();
    ctx.arc(x(1000 * exemplar.timestamp), y(band) + row / 2, DOT, 0, 2 * Math.PI);
    ctx.fill();
  }
  ctx.setLineDash(DASH);
  for (const event of events) {
    ctx.strokeStyle = theme.visualization.getColorByName(event.color);
    ctx.beginPath();
    ctx.moveTo(x(event.begin), TOP);
    ctx.lineTo(x(event.begin), TOP + plotHeight);
    ctx.stroke();
  }

  const format = getValueFormat(yAxis.unit);
  ctx.textAlign = 'right';
  ctx.textBaseline = 'middle';
  bands.forEach(({ bound }, band) => {
    const text = bound === Infinity ? '+Inf' : formattedValueToString(format(bound));
    ctx.fillText(text, LEFT - 6, y(band) + row / 2);
  });
  ctx.textAlign = 'center';
  ticks(range).forEach(({ time, text }) => ctx.fillText(text, x(time), height - AXIS_HEIGHT / 2));
}

/** Color scale from few to many, increasing in contrast to the background. */
function shades(scheme: string, theme: GrafanaTheme2): (share: number) => string {
  const interpolator = (schemes as unknown as Record<string, (share: number) => string>)[`interpolate${scheme}`];
  return (share) => interpolator(theme.isDark ? 1 - share : share);
}
