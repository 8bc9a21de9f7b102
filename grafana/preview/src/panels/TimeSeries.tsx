import { type GrafanaTheme2 } from '@grafana/data';
import { REGION_FILL_ALPHA, TimeSeries as Plot, TooltipPlugin, useTheme2, type UPlotConfigBuilder } from '@grafana/ui';
import type uPlot from 'uplot';
import { type Event } from '../annotations';
import { toNumber, type Exemplar } from '../prometheus';
import { DASH } from './marks';
import { type PanelProps } from './props';

const DOT = 3;

export function TimeSeries({ panel, frames, exemplars, events, range, width, height }: PanelProps) {
  const theme = useTheme2();
  const { legend, tooltip } = panel.options;
  const decorate = (config: UPlotConfigBuilder) => {
    config.addHook('draw', (plot) => {
      plot.ctx.save();
      plot.ctx.beginPath();
      plot.ctx.rect(plot.bbox.left, plot.bbox.top, plot.bbox.width, plot.bbox.height);
      plot.ctx.clip();
      events.forEach((event) => mark(plot, event, theme));
      exemplars.forEach((exemplar) => dot(plot, exemplar, theme));
      plot.ctx.restore();
    });
    return <TooltipPlugin config={config} data={frames[0]} frames={frames} mode={tooltip?.mode} timeZone="utc" />;
  };
  return (
    <Plot
      frames={frames}
      width={width}
      height={height}
      timeRange={range}
      timeZone="utc"
      legend={legend}
      options={panel.options}
    >
      {decorate}
    </Plot>
  );
}

/** Draw dashed lines at the start and end of each event, and a shaded area between them. */
function mark({ ctx, bbox, valToPos }: uPlot, event: Event, theme: GrafanaTheme2): void {
  const [begin, end] = [event.begin, event.end].map((time) => Math.round(valToPos(time, 'x', true)));
  ctx.strokeStyle = ctx.fillStyle = theme.visualization.getColorByName(event.color);
  ctx.setLineDash(DASH);
  for (const x of new Set([begin, end])) {
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.globalAlpha = REGION_FILL_ALPHA;
  ctx.fillRect(begin, bbox.top, end - begin, bbox.height);
  ctx.globalAlpha = 1;
  ctx.setLineDash([]);
}

function dot({ ctx, series, valToPos }: uPlot, exemplar: Exemplar, theme: GrafanaTheme2): void {
  const scale = series[1].scale ?? 'y';
  ctx.fillStyle = theme.colors.text.primary;
  ctx.beginPath();
  ctx.arc(
    valToPos(1000 * exemplar.timestamp, 'x', true),
    valToPos(toNumber(exemplar.value), scale, true),
    DOT,
    0,
    2 * Math.PI,
  );
  ctx.fill();
}
