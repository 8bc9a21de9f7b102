import { TableNG } from '@grafana/ui/unstable';
import { fieldConfig } from '../fields';
import { type PanelProps } from './props';

export function Table({ panel, frames, range, width, height }: PanelProps) {
  const { cellHeight, sortBy } = panel.options;
  return (
    <TableNG
      data={frames[0]}
      width={width}
      height={height}
      timeRange={range}
      structureRev={1}
      cellHeight={cellHeight}
      sortBy={sortBy}
      fieldConfig={fieldConfig(panel)}
      getActions={() => []}
      enableVirtualization={false}
    />
  );
}
