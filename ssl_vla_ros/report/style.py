# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The report page's style sheet, for light and dark screens and for narrow ones."""

STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #777; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-bottom: .4rem; }
section { border-top: 1px solid var(--line); padding: .2rem 0 .8rem; }
svg { max-width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: currentColor; }
.grid { stroke: var(--line); fill: none; }
.reference { stroke: currentColor; stroke-dasharray: 5 4; fill: none; }
.interval { stroke: currentColor; stroke-width: 1.6; fill: none; }
.missing { color: var(--quiet); fill: var(--quiet); font-style: italic; }
.scroll { overflow-x: auto; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; } figcaption { font-size: .85rem; color: var(--quiet); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .6rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child { text-align: left; font-weight: normal; }
.strip th, .strip td { padding: .1rem; border: 0; text-align: center; }
.strip img { display: block; image-rendering: pixelated; height: auto; }
video { max-width: 100%; width: 38rem; image-rendering: pixelated; }
"""
