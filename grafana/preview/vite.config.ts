import { createReadStream, existsSync } from 'node:fs';
import { join, normalize } from 'node:path';
import react from '@vitejs/plugin-react';
import { defineConfig, type Connect, type Plugin } from 'vite';

// Serve dashboards from disk, so that changes need no build.
const FOLDERS: Record<string, string> = {
  '/dashboards/': '../dashboards',
  '/public/build/img/': 'node_modules/@grafana/ui/dist/public/img',
};
const FONTS = 'node_modules/@fontsource/inter/files';
const FILES: Record<string, string> = {
  '/public/fonts/inter/Inter-Regular.woff2': `${FONTS}/inter-latin-400-normal.woff2`,
  '/public/fonts/inter/Inter-Medium.woff2': `${FONTS}/inter-latin-500-normal.woff2`,
};
const TYPES: Record<string, string> = { json: 'application/json', svg: 'image/svg+xml', woff2: 'font/woff2' };

const serve: Connect.NextHandleFunction = (request, response, next) => {
  const path = normalize(decodeURIComponent((request.url ?? '').split('?')[0]));
  const prefix = Object.keys(FOLDERS).find((prefix) => path.startsWith(prefix));
  const file = FILES[path] ?? (prefix && join(FOLDERS[prefix], path.slice(prefix.length)));
  if (!file || !existsSync(file)) {
    return next();
  }
  response.setHeader('Content-Type', TYPES[path.split('.').pop() ?? ''] ?? 'application/octet-stream');
  createReadStream(file).pipe(response);
};

const folders: Plugin = {
  name: 'folders',
  configureServer: (server) => void server.middlewares.use(serve),
  configurePreviewServer: (server) => void server.middlewares.use(serve),
};

export default defineConfig({
  plugins: [react(), folders],
  define: { 'process.env': {}, 'process.env.NODE_ENV': JSON.stringify('production') },
  server: { host: '127.0.0.1' },
  preview: { host: '127.0.0.1' },
  build: { chunkSizeWarningLimit: 20_000 },
});
