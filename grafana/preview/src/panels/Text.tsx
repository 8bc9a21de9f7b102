import { renderMarkdown } from '@grafana/data';
import { type PanelProps } from './props';

export function Text({ panel }: PanelProps) {
  return <div className="markdown-html" dangerouslySetInnerHTML={{ __html: renderMarkdown(panel.options.content) }} />;
}
