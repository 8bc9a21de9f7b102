/** How the lines of annotations are dashed. */
export const DASH = [4, 4];
