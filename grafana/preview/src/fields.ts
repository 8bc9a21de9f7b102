/** Apply field options, defaults and overrides of a panel to its frames, as Grafana does. */

import {
  applyFieldOverrides,
  cacheFieldDisplayNames,
  dataLinksOverrideProcessor,
  displayNameOverrideProcessor,
  FieldColorModeId,
  FieldConfigOptionsRegistry,
  identityOverrideProcessor,
  numberOverrideProcessor,
  standardTransformers,
  standardTransformersRegistry,
  thresholdsOverrideProcessor,
  ThresholdsMode,
  transformDataFrame,
  unitOverrideProcessor,
  valueMappingsOverrideProcessor,
  type DataFrame,
  type FieldConfigPropertyItem,
  type FieldConfigSource,
  type GrafanaTheme2,
  type InterpolateFunction,
  type Threshold,
} from '@grafana/data';
import { lastValueFrom } from 'rxjs';
import { type Panel } from './dashboard';

const PROCESSORS: Record<string, FieldConfigPropertyItem['process']> = {
  decimals: numberOverrideProcessor,
  displayName: displayNameOverrideProcessor,
  links: dataLinksOverrideProcessor,
  mappings: valueMappingsOverrideProcessor,
  max: numberOverrideProcessor,
  min: numberOverrideProcessor,
  thresholds: thresholdsOverrideProcessor,
  unit: unitOverrideProcessor,
};
const PLAIN = ['color', 'description', 'noValue'];
const CUSTOM = [
  'align',
  'axisPlacement',
  'axisSoftMax',
  'axisSoftMin',
  'cellOptions',
  'drawStyle',
  'fillOpacity',
  'filterable',
  'lineInterpolation',
  'lineWidth',
  'scaleDistribution',
  'showPoints',
  'spanNulls',
  'stacking',
  'thresholdsStyle',
  'width',
];

const TIME_SERIES = {
  drawStyle: 'line',
  lineInterpolation: 'linear',
  lineWidth: 1,
  fillOpacity: 0,
  gradientMode: 'none',
  showPoints: 'auto',
  pointSize: 5,
  axisPlacement: 'auto',
  axisColorMode: 'text',
  scaleDistribution: { type: 'linear' },
  thresholdsStyle: { mode: 'off' },
  hideFrom: { viz: false, legend: false, tooltip: false },
  spanNulls: false,
  insertNulls: false,
  stacking: { mode: 'none', group: 'A' },
  barAlignment: 0,
};
const TABLE = { align: 'auto', cellOptions: { type: 'auto' }, inspect: false };

const DEFAULTS: Record<string, FieldConfigSource['defaults']> = {
  timeseries: { color: { mode: FieldColorModeId.PaletteClassic }, custom: TIME_SERIES },
  table: { color: { mode: FieldColorModeId.Thresholds }, custom: TABLE },
};
const OTHERS: FieldConfigSource['defaults'] = { color: { mode: FieldColorModeId.Thresholds } };

const registry = new FieldConfigOptionsRegistry();

/** Call once before rendering. */
export function prepare(): void {
  registry.setInit(() => [
    ...Object.entries(PROCESSORS).map(([id, process]) => property(id, process)),
    ...PLAIN.map((id) => property(id, identityOverrideProcessor)),
    ...CUSTOM.map((id) => property(`custom.${id}`, identityOverrideProcessor)),
  ]);
  const transformers = [...new Map(Object.values(standardTransformers).map((one) => [one.id, one])).values()];
  standardTransformersRegistry.setInit(() =>
    transformers.map((one) => ({ id: one.id, name: one.name, transformation: async () => one }) as any),
  );
}

function property(id: string, process: FieldConfigPropertyItem['process']): FieldConfigPropertyItem {
  const custom = id.startsWith('custom.');
  const path = custom ? id.slice('custom.'.length) : id;
  return { id, path, isCustom: custom, name: id, process, shouldApply: () => true, settings: {} } as any;
}

/** Merge the field options of a panel over the defaults of its type. */
export function fieldConfig(panel: Panel): FieldConfigSource {
  const own = panel.fieldConfig ?? { defaults: {}, overrides: [] };
  const kind = DEFAULTS[panel.type] ?? OTHERS;
  const thresholds = own.defaults.thresholds ?? { mode: ThresholdsMode.Absolute, steps: [] };
  return {
    defaults: {
      mappings: [],
      ...kind,
      ...own.defaults,
      thresholds: { ...thresholds, steps: thresholds.steps.map(fromInfinity) },
      custom: { ...kind.custom, ...own.defaults.custom },
    },
    overrides: own.overrides.map((override) => ({
      ...override,
      properties: override.properties.map((one) =>
        one.id === 'thresholds' ? { ...one, value: { ...one.value, steps: one.value.steps.map(fromInfinity) } } : one,
      ),
    })),
  };
}

/** The lowest step has no value in files. */
function fromInfinity(step: Threshold): Threshold {
  return { ...step, value: step.value ?? -Infinity };
}

/** Return frames with transformations and field options applied. */
export async function applyFieldConfig(
  panel: Panel,
  frames: DataFrame[],
  theme: GrafanaTheme2,
  replaceVariables: InterpolateFunction,
): Promise<DataFrame[]> {
  const transformed = panel.transformations?.length
    ? await lastValueFrom(transformDataFrame(panel.transformations, frames))
    : frames;
  const configured = applyFieldOverrides({
    data: transformed,
    fieldConfig: fieldConfig(panel),
    fieldConfigRegistry: registry,
    replaceVariables,
    theme,
    timeZone: 'utc',
  });
  cacheFieldDisplayNames(configured);
  return configured;
}
