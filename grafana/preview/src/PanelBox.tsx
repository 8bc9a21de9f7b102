import { LoadingState, type TimeRange } from '@grafana/data';
import { ErrorBoundaryAlert, PanelChrome, useTheme2 } from '@grafana/ui';
import { useEffect, useState, type ComponentType } from 'react';
import { type Event } from './annotations';
import { type Panel } from './dashboard';
import { applyFieldConfig } from './fields';
import { request, type QueryResult } from './frames';
import { replacer } from './links';
import { Heatmap } from './panels/Heatmap';
import { type PanelProps } from './panels/props';
import { Stat } from './panels/Stat';
import { StateTimeline } from './panels/StateTimeline';
import { Table } from './panels/Table';
import { TimeSeries } from './panels/TimeSeries';
import { type Prometheus } from './prometheus';
import { interpolate, type VariableValues } from './variables';

const PANEL_COMPONENTS: Record<string, ComponentType<PanelProps>> = {
  heatmap: Heatmap,
  stat: Stat,
  'state-timeline': StateTimeline,
  table: Table,
  timeseries: TimeSeries,
};

interface Props {
  panel: Panel;
  prometheus: Prometheus;
  variableValues: VariableValues;
  range: TimeRange;
  events: Event[];
  width: number;
  height: number;
}

/** A panel with its frame; `data-state` exposes its state to scripts. */
export function PanelBox({ panel, prometheus, variableValues, range, events, width, height }: Props) {
  const theme = useTheme2();
  const [response, setAnswer] = useState<QueryResult>();
  const [error, setError] = useState<string>();
  const replaceVariables = replacer(variableValues, range);

  useEffect(() => {
    const load = async () => {
      const result = await request(panel, width, prometheus, variableValues, range);
      setAnswer({ ...result, frames: await applyFieldConfig(panel, result.frames, theme, replaceVariables) });
    };
    load().catch((reason: Error) => setError(reason.message));
  }, []);

  const PanelComponent = PANEL_COMPONENTS[panel.type];
  const empty = response !== undefined && panel.targets !== undefined && !hasValues(response);
  const state = error ? 'error' : !response ? 'loading' : empty ? 'empty' : 'done';
  return (
    <div
      data-panel={panel.id}
      data-title={panel.title}
      data-state={state}
      data-error={error}
      data-missing={response?.missing.join(' ')}
    >
      <ErrorBoundaryAlert>
        <PanelChrome
          title={interpolate(panel.title, variableValues, {}, 'text')}
          description={panel.description}
          width={width}
          height={height}
          statusMessage={error}
          loadingState={state === 'loading' ? LoadingState.Loading : undefined}
        >
          {(innerWidth, innerHeight) =>
            response && empty && panel.type !== 'stat' ? (
              <EmptyPanel height={innerHeight} text={panel.fieldConfig?.defaults.noValue ?? 'No data'} />
            ) : response && PanelComponent ? (
              <PanelComponent
                {...{ panel, range, events, replaceVariables }}
                {...response}
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

function EmptyPanel({ height, text }: { height: number; text: string }) {
  return <div style={{ height, display: 'grid', placeItems: 'center' }}>{text}</div>;
}

function hasValues({ frames }: QueryResult): boolean {
  return frames.some(({ fields }) =>
    fields.some(({ type, values }) => type !== 'time' && values.some((v) => v !== null)),
  );
}
