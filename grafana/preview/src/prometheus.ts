/** Client of the Prometheus HTTP API. */

export type Labels = Record<string, string>;

/** Unix time in seconds and the value as text. */
export type Sample = [number, string];

export interface Series {
  metric: Labels;
  values: Sample[];
}

export interface Exemplar {
  labels: Labels;
  value: string;
  timestamp: number;
}

export class Prometheus {
  constructor(private readonly url: string) {}

  async instant(query: string, time: number): Promise<Series[]> {
    const { resultType, result } = await this.request('query', { query, time });
    if (resultType === 'scalar') {
      return [{ metric: {}, values: [result] }];
    }
    return result.map((row: { metric: Labels; value: Sample }) => ({ metric: row.metric, values: [row.value] }));
  }

  async range(query: string, start: number, end: number, step: number): Promise<Series[]> {
    return (await this.request('query_range', { query, start, end, step })).result;
  }

  async exemplars(query: string, start: number, end: number): Promise<Exemplar[]> {
    const series: Array<{ exemplars: Exemplar[] }> = await this.request('query_exemplars', { query, start, end });
    return series.flatMap((one) => one.exemplars);
  }

  async labelValues(label: string, selector: string, start: number, end: number): Promise<string[]> {
    return this.request(`label/${label}/values`, { 'match[]': selector, start, end });
  }

  private async request(endpoint: string, parameters: Record<string, string | number>): Promise<any> {
    const texts = Object.entries(parameters).map(([name, value]) => [name, String(value)]);
    const response = await fetch(`${this.url}/api/v1/${endpoint}?${new URLSearchParams(texts)}`);
    const body = await response.json();
    if (body.status !== 'success') {
      throw new Error(body.error ?? response.statusText);
    }
    return body.data;
  }
}

export function toNumber(text: string): number {
  return text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text);
}

/** Fill in a legend such as `{{platform}}`. */
export function fillIn(format: string, labels: Labels): string {
  return format.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, name: string) => labels[name] ?? '');
}
