/** Dashboard variables: options, current values, and interpolation in queries and links. */

import { type TimeRange } from '@grafana/data';
import { type Variable } from './dashboard';
import { type Prometheus } from './prometheus';

export interface Option {
  text: string;
  value: string;
}

/** A variable with its value; `all` if everything is selected. */
export interface VariableValue {
  variable: Variable;
  options: Option[];
  selected: Option[];
  all: boolean;
}

export type VariableValues = Map<string, VariableValue>;

/** Values of macros in addition to variables. */
export type Scope = Record<string, unknown>;

const REFERENCE = /\$(\w+)|\$\{([\w.]+)(?::(\w+))?\}/g;
const ALL = '$__all';

export async function selectValues(
  variables: Variable[],
  requested: Map<string, string[]>,
  prometheus: Prometheus,
  range: TimeRange,
): Promise<VariableValues> {
  const variableValues: VariableValues = new Map();
  for (const variable of variables) {
    const options =
      variable.type === 'datasource'
        ? [{ text: 'Prometheus', value: variable.query }]
        : await optionsOf(variable, variableValues, prometheus, range);
    const values = requested.get(variable.name) ?? (variable.includeAll ? [ALL] : [options[0].value]);
    const selected = values.map((value) => options.find((option) => option.value === value) ?? { text: value, value });
    variableValues.set(variable.name, { variable, options, selected, all: values.includes(ALL) });
  }
  return variableValues;
}

async function optionsOf(
  variable: Variable,
  variableValues: VariableValues,
  prometheus: Prometheus,
  range: TimeRange,
): Promise<Option[]> {
  const [start, end] = [range.from.unix(), range.to.unix()];
  const query = interpolate(variable.query, variableValues);
  const labelValues = query.match(/^label_values\((.+), (\w+)\)$/);
  const queryResult = query.match(/^query_result\((.+)\)$/);
  let texts: string[];
  if (labelValues) {
    texts = await prometheus.labelValues(labelValues[2], labelValues[1], start, end);
  } else if (queryResult) {
    const series = await prometheus.instant(queryResult[1], end);
    texts = series.map(({ metric }) =>
      Object.entries(metric)
        .map(([name, value]) => `${name}="${value}"`)
        .join(','),
    );
  } else {
    throw new Error(`${variable.name}: the preview does not support the query ${query}`);
  }
  const options = texts.map((text) => optionOf(text, variable.regex)).filter((option) => option !== undefined);
  return options.sort((one, other) => one.text.localeCompare(other.text));
}

function optionOf(text: string, regex?: string): Option | undefined {
  if (!regex) {
    return { text, value: text };
  }
  const match = text.match(new RegExp(regex.replace(/^\/|\/$/g, '')));
  if (!match) {
    return undefined;
  }
  const value = match.groups?.value ?? match[1] ?? match[0];
  return { text: match.groups?.text ?? value, value };
}

/** Interpolate variables, macros and data-link fields in a text. */
export function interpolate(text: string, variableValues: VariableValues, scope: Scope = {}, format = 'regex'): string {
  return text.replace(REFERENCE, (whole, plain?: string, braced?: string, own?: string) => {
    const name = plain ?? braced ?? '';
    if (name in scope) {
      return own === 'percentencode' ? encodeURIComponent(String(scope[name])) : String(scope[name]);
    }
    const variableValue = variableValues.get(name);
    return variableValue ? formatted(name, variableValue, own ?? format) : whole;
  });
}

function formatted(name: string, { variable, selected, all }: VariableValue, format: string): string {
  const values = all ? [ALL] : selected.map((option) => option.value);
  switch (format) {
    case 'queryparam':
      return values.map((value) => `var-${name}=${encodeURIComponent(value)}`).join('&');
    case 'text':
      return all ? 'All' : selected.map((option) => option.text).join(' + ');
    default:
      return all
        ? (variable.allValue ?? '.*')
        : values.length === 1
          ? escape(values[0])
          : `(${values.map(escape).join('|')})`;
  }
}

/** Escape a value for a regular expression in a PromQL string. */
function escape(value: string): string {
  return value.replace(/[\\^$*+?.()|[\]{}]/g, '\\\\$&');
}
