import { useEffect, useState, type ReactNode } from 'react';

const WEIGHTS = [400, 500];

/** Draws nothing before the fonts are there: texts are measured once, with the font of that moment. */
export function AfterFonts({ children }: { children: ReactNode }) {
  const [ready, setReady] = useState(false);
  useEffect(() => {
    const loading = WEIGHTS.map((weight) => document.fonts.load(`${weight} 12px Inter`));
    Promise.all(loading).then(() => setReady(true));
  }, []);
  return ready && children;
}
