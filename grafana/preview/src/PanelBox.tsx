import { LoadingState, type TimeRange } from '@grafana/data';
import { ErrorBoundaryAlert, PanelChrome, useTheme2 } from '@grafana/ui';
import { useEffect, useState, type ComponentType } from 'react';
import { type Event } from './annotations';
import { type Panel } from './dashboard';
import { dress } from './fields';
import { ask, type Answer } from './frames';
import { replacer } from './links';
import { Heatmap } from './panels/Heatmap';
import { type PanelProps } from './panels/props';
import { Stat } from './panels/Stat';
import { StateTimeline } from './panels/StateTimeline';
import { Table } from './panels/Table';
import { Text } from './panels/Text';
import { TimeSeries } from './panels/TimeSeries';
import { type Prometheus } from './prometheus';
import { interpolate, type Choices } from './variables';

const KINDS: Record<string, ComponentType<PanelProps>> = {
  heatmap: Heatmap,
  stat: Stat,
  'state-timeline': StateTimeline,
  table: Table,
  text: Text,
  timeseries: TimeSeries,
};

interface Props {
  panel: Panel;
  prometheus: Prometheus;
  choices: Choices;
  range: TimeRange;
  events: Event[];
  width: number;
  height: number;
}

/** A panel with its frame; `data-state` exposes its state to scripts. */
export function PanelBox({ panel, prometheus, choices, range, events, width, height }: Props) {
  const theme = useTheme2();
  const [answer, setAnswer] = useState<Answer>();
  const [error, setError] = useState<string>();
  const replaceVariables = replacer(choices, range);

  useEffect(() => {
    const load = async () => {
      const found = await ask(panel, width, prometheus, choices, range);
      setAnswer({ ...found, frames: await dress(panel, found.frames, theme, replaceVariables) });
    };
    load().catch((reason: Error) => setError(reason.message));
  }, []);

  const Kind = KINDS[panel.type];
  const empty = answer !== undefined && panel.targets !== undefined && !hasValues(answer);
  const state = error ? 'error' : !answer ? 'loading' : empty ? 'empty' : 'done';
  return (
    <div
      data-panel={panel.id}
      data-title={panel.title}
      data-state={state}
      data-error={error}
      data-missing={answer?.missing.join(' ')}
    >
      <ErrorBoundaryAlert>
        <PanelChrome
          title={interpolate(panel.title, choices, {}, 'text')}
          description={panel.description}
          width={width}
          height={height}
          statusMessage={error}
          loadingState={state === 'loading' ? LoadingState.Loading : undefined}
        >
          {(innerWidth, innerHeight) =>
            answer && empty && panel.type !== 'stat' ? (
              <Nothing height={innerHeight} text={panel.fieldConfig?.defaults.noValue ?? 'No data'} />
            ) : answer && Kind ? (
              <Kind
                {...{ panel, range, events, replaceVariables }}
                {...answer}
                width={innerWidth}
                height={innerHeight}
              />
            ) : null
          }
        </PanelChrome>
      </ErrorBoundaryAlert>
    </div>
  );
}

function Nothing({ height, text }: { height: number; text: string }) {
  return <div style={{ height, display: 'grid', placeItems: 'center' }}>{text}</div>;
}

function hasValues({ frames }: Answer): boolean {
  return frames.some(({ fields }) =>
    fields.some(({ type, values }) => type !== 'time' && values.some((v) => v !== null)),
  );
}
