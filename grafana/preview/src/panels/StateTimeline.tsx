import { getFieldDisplayName, type DataFrame, type Field } from '@grafana/data';
import { LegendDisplayMode } from '@grafana/schema';
import { measureText, useTheme2, VizLegend } from '@grafana/ui';
import { place, ticks } from './axis';
import { DASH } from './marks';
import { type PanelProps } from './props';

const NAME_SPACE = 10;
const FONT_SIZE = 12;
const AXIS_HEIGHT = 22;
const LEGEND_HEIGHT = 26;
const OPACITY = 0.8;

interface Period {
  begin: number;
  end: number;
  text: string;
  color: string;
}

interface Line {
  name: string;
  periods: Period[];
}

/** Replaces Grafana's component, which is not part of @grafana/ui. */
export function StateTimeline({ panel, frames, events, range, width, height }: PanelProps) {
  const theme = useTheme2();
  const lines = frames.map((frame) => lineOf(frame, frames));
  const left = 2 * NAME_SPACE + Math.max(...lines.map((line) => measureText(line.name, FONT_SIZE).width));
  const [plotWidth, plotHeight] = [width - left - NAME_SPACE, height - AXIS_HEIGHT - LEGEND_HEIGHT];
  const row = plotHeight / lines.length;
  const rowShare = Number(panel.options.rowHeight);
  const x = (time: number) => left + place(time, range, plotWidth);
  const colors = new Map(lines.flatMap((line) => line.periods).map(({ text, color }) => [text, color]));
  return (
    <div>
      <svg width={width} height={height - LEGEND_HEIGHT} fill={theme.colors.text.primary} fontSize={FONT_SIZE}>
        {lines.map(({ name, periods }, number) => (
          <g key={name} transform={`translate(0, ${row * number})`}>
            <text x={left - NAME_SPACE} y={row / 2} textAnchor="end" dominantBaseline="middle">
              {name}
            </text>
            {periods.map(({ begin, end, text, color }) => (
              <rect
                key={begin}
                x={x(begin)}
                y={(row * (1 - rowShare)) / 2}
                width={Math.max(1, x(end) - x(begin))}
                height={row * rowShare}
                fill={color}
                fillOpacity={OPACITY}
              >
                <title>{text}</title>
              </rect>
            ))}
          </g>
        ))}
        {events.map(({ begin, color, title }, number) => (
          <line
            key={number}
            x1={x(begin)}
            x2={x(begin)}
            y2={plotHeight}
            stroke={theme.visualization.getColorByName(color)}
            strokeDasharray={DASH.join()}
          >
            <title>{title}</title>
          </line>
        ))}
        {ticks(range).map(({ time, text }) => (
          <text key={time} x={x(time)} y={plotHeight + AXIS_HEIGHT - 6} textAnchor="middle">
            {text}
          </text>
        ))}
      </svg>
      <VizLegend
        placement="bottom"
        displayMode={LegendDisplayMode.List}
        items={[...colors].map(([label, color]) => ({ label, color, yAxis: 1 }))}
      />
    </div>
  );
}

function lineOf(frame: DataFrame, frames: DataFrame[]): Line {
  const [time, value] = frame.fields;
  return { name: getFieldDisplayName(value, frame, frames), periods: periodsOf(time, value) };
}

/** Merge neighbours with the same text; each state lasts until the next value, if there is one. */
function periodsOf(time: Field<number>, value: Field<number | null>): Period[] {
  const periods: Period[] = [];
  time.values.forEach((begin, at) => {
    const number = value.values[at];
    if (number === null) {
      return;
    }
    const { text, color } = value.display!(number);
    const end = time.values[at + 1] ?? begin;
    const last = periods.at(-1);
    if (last && last.text === text && last.end === begin) {
      last.end = end;
    } else {
      periods.push({ begin, end, text, color: color ?? 'transparent' });
    }
  });
  return periods;
}
