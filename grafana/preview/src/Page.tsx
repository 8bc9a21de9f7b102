import { type TimeRange, dateTimeFormat } from '@grafana/data';
import { Icon, InlineLabel, InlineSwitch, LinkButton, Tag, ToolbarButton, useTheme2 } from '@grafana/ui';
import { type Event } from './annotations';
import { type AnnotationQuery, type Dashboard, type GridPos } from './dashboard';
import { PanelBox } from './PanelBox';
import { type Prometheus } from './prometheus';
import { interpolate, type VariableValue, type VariableValues } from './variables';

const COLUMNS = 24;
const CELL_HEIGHT = 38;
const GAP = 8;
const PADDING = 16;
const HIDDEN = 2;

interface Props {
  dashboard: Dashboard;
  prometheus: Prometheus;
  variableValues: VariableValues;
  range: TimeRange;
  events: Event[];
}

export function Page({ dashboard, prometheus, variableValues, range, events }: Props) {
  const { background, text } = useTheme2().colors;
  const column = (innerWidth - 2 * PADDING) / COLUMNS;
  const width = ({ w }: GridPos) => Math.floor(w * column) - GAP;
  const height = ({ h }: GridPos) => h * CELL_HEIGHT - GAP;
  const bottom = Math.max(...dashboard.panels.map(({ gridPos: { y, h } }) => y + h)) * CELL_HEIGHT;
  return (
    <div style={{ background: background.canvas, color: text.primary, padding: PADDING, minHeight: '100vh' }}>
      <Heading {...{ dashboard, range }} />
      <div style={{ display: 'flex', gap: GAP, marginBottom: GAP, flexWrap: 'wrap' }}>
        {[...variableValues.values()].map(
          (variableValue) => variableValue.variable.hide !== HIDDEN && <SelectedValue key={variableValue.variable.name} {...{ variableValue }} />,
        )}
        <span style={{ flex: 1 }} />
        {dashboard.annotations.list.map((query) => (
          <Switchable key={query.name} {...{ query }} />
        ))}
      </div>
      <div style={{ position: 'relative', height: bottom }}>
        {dashboard.panels.map((panel) => (
          <div
            key={panel.id}
            style={{ position: 'absolute', left: panel.gridPos.x * column, top: panel.gridPos.y * CELL_HEIGHT }}
          >
            {panel.type === 'row' ? (
              <h2 style={{ display: 'flex', alignItems: 'center', height: CELL_HEIGHT - GAP, fontSize: 14, margin: 0 }}>
                <Icon name={panel.collapsed ? 'angle-right' : 'angle-down'} />
                &nbsp;{interpolate(panel.title, variableValues, {}, 'text')}
                {panel.collapsed && <small style={{ color: text.secondary }}>&nbsp;({panel.panels?.length} panels)</small>}
              </h2>
            ) : (
              <PanelBox
                {...{ panel, prometheus, variableValues, range, events }}
                width={width(panel.gridPos)}
                height={height(panel.gridPos)}
              />
            )}
          </div>
        ))}
      </div>
    </div>
  );
}

function Heading({ dashboard, range }: Pick<Props, 'dashboard' | 'range'>) {
  const [from, to] = [range.from, range.to].map((time) =>
    dateTimeFormat(time, { format: 'YYYY-MM-DD HH:mm', timeZone: 'utc' }),
  );
  return (
    <div style={{ display: 'flex', gap: GAP, alignItems: 'center', marginBottom: GAP }}>
      <h1 style={{ fontSize: 18, margin: 0 }}>{dashboard.title}</h1>
      {dashboard.tags.map((tag) => (
        <Tag key={tag} name={tag} />
      ))}
      <span style={{ flex: 1 }} />
      {dashboard.links.map(({ title }) => (
        <LinkButton key={title} size="sm" variant="secondary" icon="bars">
          {title}
        </LinkButton>
      ))}
      <ToolbarButton icon="clock-nine">
        {from} to {to} UTC
      </ToolbarButton>
    </div>
  );
}

function SelectedValue({ variableValue: { variable, selected, all } }: { variableValue: VariableValue }) {
  const { background, border } = useTheme2().colors;
  return (
    <div style={{ display: 'flex' }}>
      <InlineLabel width="auto">{variable.label ?? variable.name}</InlineLabel>
      <span style={{ background: background.primary, border: `1px solid ${border.weak}`, padding: '5px 12px' }}>
        {all ? 'All' : selected.map((option) => option.text).join(' + ')}
        &nbsp;
        <Icon name="angle-down" />
      </span>
    </div>
  );
}

function Switchable({ query: { name, iconColor, enable } }: { query: AnnotationQuery }) {
  const { visualization } = useTheme2();
  return (
    <InlineLabel width="auto">
      <span style={{ borderLeft: `2px dashed ${visualization.getColorByName(iconColor)}`, height: 14 }} />
      &nbsp;{name}&nbsp;
      <InlineSwitch value={enable} readOnly transparent aria-label={name} />
    </InlineLabel>
  );
}
