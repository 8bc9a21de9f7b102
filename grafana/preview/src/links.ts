/** Context of a data link: the value that it belongs to. */

import { getFieldDisplayName, type InterpolateFunction, type TimeRange } from '@grafana/data';
import { interpolate, type VariableValues, type Scope } from './variables';

export function replacer(variableValues: VariableValues, range: TimeRange): InterpolateFunction {
  const time = `from=${range.from.valueOf()}&to=${range.to.valueOf()}`;
  return (text, scoped, format) => {
    const kind = typeof format === 'string' ? format : 'text';
    return interpolate(text ?? '', variableValues, { __url_time_range: time, ...known(scoped) }, kind);
  };
}

function known(scoped: Parameters<InterpolateFunction>[1]): Scope {
  const context = scoped?.__dataContext?.value;
  if (!context) {
    return {};
  }
  const { data, frame, field, rowIndex } = context;
  const scope: Scope = { '__field.displayName': getFieldDisplayName(field, frame, data) };
  for (const [label, value] of Object.entries(field.labels ?? {})) {
    scope[`__field.labels.${label}`] = value;
  }
  if (rowIndex !== undefined) {
    scope['__value.raw'] = field.values[rowIndex];
    for (const other of frame.fields) {
      scope[`__data.fields.${other.name}`] = other.values[rowIndex];
    }
  }
  return scope;
}
