/**
 * Looks at dashboards in a headless Chromium: writes a picture of each, and prints what it saw as JSON.
 *
 * Its only argument is JSON: `browser` (a path), `prometheus` (a URL), `to` (Unix time in milliseconds, which is now
 * for the page), `pictures` (a folder), `themes`, `dashboards` (uids), `variables` (values by name by dashboard).
 */

import { join } from 'node:path';
import { chromium } from 'playwright-core';
import sharp from 'sharp';
import { preview } from 'vite';

const HOUR = 3_600_000;
const RANGE = 6 * HOUR;
const VIEWPORT = { width: 1600, height: 1000 };
const SMALL = { palette: true, quality: 90, effort: 10 };
const PATIENCE = 60_000;
const SHOWN = '[data-panel]:not([data-state=loading])';
const QUIET = ['--disable-gpu', '--disable-quic', '--disable-background-networking', '--disable-component-update'];

const wanted = JSON.parse(process.argv[2]);
const server = await preview({ preview: { port: 0 }, logLevel: 'silent' });
// Chromium's sandbox does not work as root; only local pages are opened.
const browser = await chromium.launch({ executablePath: wanted.browser, args: ['--no-sandbox', ...QUIET] });
try {
  const seen = {};
  for (const dashboard of wanted.dashboards) {
    for (const theme of wanted.themes) {
      seen[`${dashboard}-${theme}`] = await look(dashboard, theme);
    }
  }
  console.log(JSON.stringify(seen));
} finally {
  await browser.close();
  await server.close();
}

async function look(dashboard, theme) {
  const page = await browser.newPage({ viewport: VIEWPORT, timezoneId: 'UTC', locale: 'en-US', colorScheme: theme });
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(`error: ${error.message}`));
  page.on('console', (message) => message.type() === 'error' && complaints.push(`console: ${message.text()}`));
  page.on('response', (answer) => answer.status() >= 400 && complaints.push(`${answer.status()}: ${answer.url()}`));
  await page.clock.setFixedTime(wanted.to);
  await page.goto(address(dashboard, theme));
  await page
    .waitForFunction(
      (shown) => {
        const panels = document.querySelectorAll('[data-panel]').length;
        return panels > 0 && document.querySelectorAll(shown).length === panels;
      },
      SHOWN,
      { timeout: PATIENCE },
    )
    .catch((error) => complaints.push(`${error.message}: ${dashboard}`));
  // Make the viewport as high as the page, because tables render only visible rows.
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.setViewportSize({ ...VIEWPORT, height });
  await settle(page);
  await sharp(await page.screenshot())
    .png(SMALL)
    .toFile(join(wanted.pictures, `${dashboard}-${theme}.png`));
  const found = await page.evaluate(report);
  await page.close();
  return { complaints, ...found };
}

function address(dashboard, theme) {
  const variables = Object.entries(wanted.variables[dashboard] ?? {}).map(([name, value]) => [`var-${name}`, value]);
  const [from, to] = [wanted.to - RANGE, wanted.to];
  const query = new URLSearchParams([...Object.entries({ dashboard, theme, from, to }), ...variables]);
  return `${server.resolvedUrls.local[0]}?${query}&prometheus=${wanted.prometheus}`;
}

/** Wait until the page has not changed for some frames. */
async function settle(page) {
  await page.evaluate(async () => {
    let calm = 0;
    const observer = new MutationObserver(() => (calm = 0));
    observer.observe(document.body, { subtree: true, childList: true, attributes: true });
    while (calm++ < 30) {
      await new Promise(requestAnimationFrame);
    }
    observer.disconnect();
  });
}

/** Describe the rendered page; runs in the browser. */
function report() {
  const isCut = (element) => element.scrollWidth > element.clientWidth + 1;
  const panels = [...document.querySelectorAll('[data-panel]')].map((box) => ({
    ...box.dataset,
    text: box.innerText,
    headings: [...box.querySelectorAll('[role=columnheader]')].map((heading) => heading.innerText.trim()),
    cut: [...box.querySelectorAll('[role=gridcell], [role=columnheader]')]
      .filter((cell) => [cell, ...cell.querySelectorAll('*')].some(isCut))
      .map((cell) => cell.innerText),
    links: [...box.querySelectorAll('a[href]')].map((link) => link.getAttribute('href')),
  }));
  return { panels };
}
