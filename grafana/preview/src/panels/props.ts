import { type DataFrame, type InterpolateFunction, type TimeRange } from '@grafana/data';
import { type Event } from '../annotations';
import { type Panel } from '../dashboard';
import { type Exemplar } from '../prometheus';

/** Props of all panel components. */
export interface PanelProps {
  panel: Panel;
  frames: DataFrame[];
  exemplars: Exemplar[];
  events: Event[];
  range: TimeRange;
  width: number;
  height: number;
  replaceVariables: InterpolateFunction;
}
