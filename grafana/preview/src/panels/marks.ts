/** Dash pattern of annotation lines. */
export const DASH = [4, 4];
