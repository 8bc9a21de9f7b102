/**
 * Render dashboards in a headless Chromium: print the page contents as JSON, and write a picture of each if asked for.
 *
 * The only argument is JSON: `browser` (a path), `prometheus` (a URL), `to` (Unix time in milliseconds, the current time
 * for the page), `pictures` (a folder or null), `themes`, `dashboards` (uids), `variables` (values by name by dashboard),
 * `rows` (`open` to open those that are collapsed).
 */

import { join } from 'node:path';
import { chromium } from 'playwright-core';
import sharp from 'sharp';
import { preview } from 'vite';
import { measureContrasts } from './contrast.mjs';

const HOUR = 3_600_000;
const RANGE = 6 * HOUR;
const VIEWPORT = { width: 1600, height: 1000 };
const PNG_OPTIONS = { palette: true, quality: 90, effort: 10 };
const TIMEOUT = 180_000;
const LOADED = '[data-panel]:not([data-state=loading])';
const BROWSER_FLAGS = ['--disable-gpu', '--disable-quic', '--disable-background-networking', '--disable-component-update'];

const request = JSON.parse(process.argv[2]);
const server = await preview({ preview: { port: 0 }, logLevel: 'silent' });
// Chromium's sandbox does not work as root; only local pages are opened.
const browser = await chromium.launch({ executablePath: request.browser, args: ['--no-sandbox', ...BROWSER_FLAGS] });
try {
  const pages = {};
  for (const dashboard of request.dashboards) {
    for (const theme of request.themes) {
      pages[`${dashboard}-${theme}`] = await capture(dashboard, theme);
    }
  }
  console.log(JSON.stringify(pages));
} finally {
  await browser.close();
  await server.close();
}

async function capture(dashboard, theme) {
  const page = await browser.newPage({ viewport: VIEWPORT, timezoneId: 'UTC', locale: 'en-US', colorScheme: theme });
  const errors = [];
  page.on('pageerror', (error) => errors.push(`error: ${error.message}`));
  page.on('console', (message) => message.type() === 'error' && errors.push(`console: ${message.text()}`));
  page.on('response', (response) => response.status() >= 400 && errors.push(`${response.status()}: ${response.url()}`));
  await page.clock.setFixedTime(request.to);
  await page.goto(address(dashboard, theme));
  await page
    .waitForFunction(
      (selector) => {
        const panels = document.querySelectorAll('[data-panel]').length;
        return panels > 0 && document.querySelectorAll(selector).length === panels;
      },
      LOADED,
      { timeout: TIMEOUT },
    )
    .catch((error) => errors.push(`${error.message}: ${dashboard}`));
  // Make the viewport as high as the page, because tables render only visible rows.
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.setViewportSize({ ...VIEWPORT, height });
  await settle(page);
  if (request.pictures) {
    await sharp(await page.screenshot())
      .png(PNG_OPTIONS)
      .toFile(join(request.pictures, `${dashboard}-${theme}.png`));
  }
  const content = await page.evaluate(report);
  const contrasts = await page.evaluate(measureContrasts);
  await page.close();
  return { errors, ...content, contrasts };
}

function address(dashboard, theme) {
  const variables = Object.entries(request.variables[dashboard] ?? {}).map(([name, value]) => [`var-${name}`, value]);
  const [from, to] = [request.to - RANGE, request.to];
  const query = new URLSearchParams([...Object.entries({ dashboard, theme, from, to, rows: request.rows }), ...variables]);
  return `${server.resolvedUrls.local[0]}?${query}&prometheus=${request.prometheus}`;
}

/** Wait until the page has not changed for some frames. */
async function settle(page) {
  await page.evaluate(async () => {
    let quietFrames = 0;
    const observer = new MutationObserver(() => (quietFrames = 0));
    observer.observe(document.body, { subtree: true, childList: true, attributes: true });
    while (quietFrames++ < 30) {
      await new Promise(requestAnimationFrame);
    }
    observer.disconnect();
  });
}

/** Describe the rendered page; runs in the browser. */
function report() {
  const isTruncated = (element) => element.scrollWidth > element.clientWidth + 1;
  const panels = [...document.querySelectorAll('[data-panel]')].map((box) => ({
    ...box.dataset,
    text: box.innerText,
    headings: [...box.querySelectorAll('[role=columnheader]')].map((heading) => heading.innerText.trim()),
    truncated: [...box.querySelectorAll('[role=gridcell], [role=columnheader]')]
      .filter(
        (cell) =>
          [cell, ...cell.querySelectorAll('*')].some(isTruncated) ||
          cell.getBoundingClientRect().right > box.getBoundingClientRect().right + 1,
      )
      .map((cell) => cell.innerText),
    links: [...box.querySelectorAll('a[href]')].map((link) => link.getAttribute('href')),
  }));
  return { panels };
}
