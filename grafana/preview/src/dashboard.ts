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

export async function loadDashboard(uid: string): Promise<Dashboard> {
  const dashboard: Dashboard = await (await fetch(`/dashboards/${uid}.json`)).json();
  const unknown = dashboard.panels.find((panel) => panel.repeat || panel.collapsed);
  if (unknown) {
    throw new Error(`${unknown.title}: the preview does not support repeated panels or collapsed rows`);
  }
  return dashboard;
}
