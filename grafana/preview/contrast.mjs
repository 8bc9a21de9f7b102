/**
 * Return the contrast of the texts in panels, as WCAG 2.2 defines it (success criterion 1.4.3): one entry per panel and
 * pair of colors, with the ratio of the luminances and the first text. Runs in the browser, so it must not refer to
 * anything outside. Texts on a canvas, such as those of axes, are pixels and cannot be measured.
 */
export function measureContrasts() {
  const BLACK = [0, 0, 0, 1];

  const parse = (text) => {
    const [red, green, blue, alpha = 1] = text.match(/[\d.]+/g).map(Number);
    return [red, green, blue, alpha];
  };
  const over = ([red, green, blue, alpha], below) =>
    [red, green, blue].map((part, at) => alpha * part + (1 - alpha) * below[at]).concat(1);
  const luminance = (color) => {
    const [red, green, blue] = color.slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ratio = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const name = (color) => `#${color.slice(0, 3).map((part) => Math.round(part).toString(16).padStart(2, '0')).join('')}`;

  /** Return the colors behind an element; a gradient has several. */
  const backgrounds = (element) => {
    if (!element) {
      return [BLACK];
    }
    const { backgroundColor, backgroundImage } = getComputedStyle(element);
    const layers = [backgroundColor, ...(backgroundImage.match(/rgba?\([^)]+\)/g) ?? [])].map(parse);
    const [base, ...stops] = layers.filter((layer, at) => at === 0 || layer[3] > 0);
    const below = base[3] === 1 ? [base] : backgrounds(element.parentElement).map((color) => over(base, color));
    return stops.length ? stops.flatMap((stop) => below.map((color) => over(stop, color))) : below;
  };

  const found = new Map();
  for (const panel of document.querySelectorAll('[data-panel]')) {
    const walker = document.createTreeWalker(panel, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      const text = walker.currentNode.data.trim();
      if (!text || element.closest('title') || !element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) {
        continue;
      }
      const style = getComputedStyle(element);
      const paint = parse(element.closest('svg') ? style.fill : style.color);
      for (const background of backgrounds(element)) {
        const color = over(paint, background);
        const entry = { panel: panel.dataset.title, color: name(color), background: name(background) };
        const key = Object.values(entry).join();
        if (!found.has(key)) {
          found.set(key, { ...entry, ratio: ratio(color, background), text });
        }
      }
    }
  }
  return [...found.values()];
}
