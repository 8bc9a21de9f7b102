import { getDisplayValueAlignmentFactors, getFieldDisplayValues, type FieldDisplay } from '@grafana/data';
import { VizOrientation } from '@grafana/schema';
import { BigValue, useTheme2, VizRepeater, type VizRepeaterRenderValueProps } from '@grafana/ui';
import { fieldConfig } from '../fields';
import { type PanelProps } from './props';

export function Stat({ panel, frames, width, height, replaceVariables }: PanelProps) {
  const theme = useTheme2();
  const { colorMode, graphMode, justifyMode, orientation, reduceOptions, text, textMode } = panel.options;
  const values = getFieldDisplayValues({
    data: frames,
    fieldConfig: fieldConfig(panel),
    reduceOptions: { values: false, ...reduceOptions },
    replaceVariables,
    theme,
    timeZone: 'utc',
  });
  const direction = width > height ? VizOrientation.Vertical : VizOrientation.Horizontal;
  const render = (box: VizRepeaterRenderValueProps<FieldDisplay>) => (
    <BigValue
      value={box.value.display}
      count={values.length}
      width={box.width}
      height={box.height}
      theme={theme}
      alignmentFactors={getDisplayValueAlignmentFactors(values)}
      colorMode={colorMode}
      graphMode={graphMode}
      justifyMode={justifyMode}
      textMode={textMode}
      text={text}
    />
  );
  return (
    <VizRepeater
      getValues={() => values}
      renderValue={render}
      source={frames}
      width={width}
      height={height}
      renderCounter={1}
      autoGrid
      orientation={orientation && orientation !== 'auto' ? orientation : direction}
    />
  );
}
