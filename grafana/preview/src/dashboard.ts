/** Types of the parts of a dashboard file that the preview reads. */

import { type DataTransformerConfig, type FieldConfigSource } from '@grafana/data';

export interface GridPos {
  x: number;
  y: number;
  w: number;
  h: number;
}

export interface Target {
  refId: string;
  expr: string;
  format?: 'time_series' | 'table' | 'heatmap';
  instant?: boolean;
  exemplar?: boolean;
  legendFormat?: string;
  interval?: string;
}

export interface Panel {
  id: number;
  type: string;
  title: string;
  description?: string;
  gridPos: GridPos;
  interval?: string;
  maxDataPoints?: number;
  targets?: Target[];
  transformations?: DataTransformerConfig[];
  fieldConfig?: FieldConfigSource;
  options?: any;
  repeat?: string;
  collapsed?: boolean;
  panels?: Panel[];
}

export interface Variable {
  name: string;
  type: string;
  label?: string;
  query: string;
  regex?: string;
  hide?: number;
  includeAll?: boolean;
  allValue?: string;
}

export interface AnnotationQuery {
  name: string;
  expr: string;
  iconColor: string;
  enable: boolean;
  step?: string;
  titleFormat?: string;
  useValueForTime?: boolean;
}

export interface Dashboard {
  uid: string;
  title: string;
  tags: string[];
  time: { from: string; to: string };
  links: Array<{ title: string }>;
  panels: Panel[];
  annotations: { list: AnnotationQuery[] };
  templating: { list: Variable[] };
}

export async function loadDashboard(uid: string, rowsOpen: boolean): Promise<Dashboard> {
  const dashboard: Dashboard = await (await fetch(`/dashboards/${uid}.json`)).json();
  const unknown = dashboard.panels.find((panel) => panel.repeat);
  if (unknown) {
    throw new Error(`${unknown.title}: the preview does not support repeated panels`);
  }
  return rowsOpen ? { ...dashboard, panels: openRows(dashboard.panels) } : dashboard;
}

/** Open collapsed rows, each of which moves down what is below it. */
function openRows(panels: Panel[]): Panel[] {
  let shift = 0;
  return panels.flatMap((panel) => {
    const inner = panel.collapsed ? panel.panels ?? [] : [];
    const moved = [{ ...panel, collapsed: false }, ...inner].map(({ gridPos, ...rest }) => ({
      ...rest,
      gridPos: { ...gridPos, y: gridPos.y + shift },
    }));
    const top = panel.gridPos.y + panel.gridPos.h;
    shift += Math.max(top, ...inner.map(({ gridPos: { y, h } }) => y + h)) - top;
    return moved;
  });
}
