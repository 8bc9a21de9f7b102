import { useEffect, useState, type ReactNode } from 'react';

const WEIGHTS = [400, 500];

/** Render nothing until the fonts are loaded, because texts are measured only once. */
export function AfterFonts({ children }: { children: ReactNode }) {
  const [ready, setReady] = useState(false);
  useEffect(() => {
    const loading = WEIGHTS.map((weight) => document.fonts.load(`${weight} 12px Inter`));
    Promise.all(loading).then(() => setReady(true));
  }, []);
  return ready && children;
}
