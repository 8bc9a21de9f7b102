import { createTheme, ThemeContext } from '@grafana/data';
import { GlobalStyles, PortalContainer } from '@grafana/ui';
import { createRoot } from 'react-dom/client';
import { readAddress, timeRange } from './address';
import { events } from './annotations';
import { loadDashboard } from './dashboard';
import { prepare } from './fields';
import { AfterFonts } from './fonts';
import { Page } from './Page';
import { Prometheus } from './prometheus';
import { selectValues } from './variables';

// Path from which Grafana's components load icons and fonts.
Object.assign(window, { __grafana_public_path__: '/public/' });

async function start(): Promise<void> {
  const address = readAddress(location.search);
  const dashboard = await loadDashboard(address.dashboard, address.rowsOpen);
  const range = timeRange(address.from ?? dashboard.time.from, address.to ?? dashboard.time.to);
  const prometheus = new Prometheus(address.prometheus);
  const variableValues = await selectValues(dashboard.templating.list, address.variables, prometheus, range);
  const eventList = await events(dashboard.annotations.list, prometheus, variableValues, range);
  prepare();
  createRoot(document.getElementById('root')!).render(
    <ThemeContext.Provider value={createTheme({ colors: { mode: address.theme } })}>
      <GlobalStyles />
      <PortalContainer />
      <AfterFonts>
        <Page {...{ dashboard, prometheus, variableValues, range }} events={eventList} />
      </AfterFonts>
    </ThemeContext.Provider>,
  );
}

start().catch((reason: Error) => {
  console.error(reason);
  document.body.textContent = reason.message;
});
