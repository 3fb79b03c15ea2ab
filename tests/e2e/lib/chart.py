"""Text pictures for the demo: a rate over time with marks below it, and aligned rows."""

BLOCKS = " ▁▂▃▄▅▆▇█"
ROWS = 6


def rate_chart(bins, bin_ms, marks, unit):
    """`bins`: operations in each bin; `marks`: [(bin as a fraction, text)]. Returns lines."""
    rates = [count * 1000 / bin_ms for count in bins]
    top = max([*rates, 1e-9])
    lines = []
    for row in range(ROWS, 0, -1):
        cells = "".join(_cell(rate / top * ROWS - (row - 1)) for rate in rates)
        label = _short(top) if row == ROWS else ""
        lines.append(f"{label:>7} ┤{cells}")
    lines.append(f"{'0':>7} ┼{'─' * len(bins)}  {unit}, one column = {bin_ms} ms")
    return lines + [f"{'':>9}{' ' * _column(at, bins)}▲ {text}" for at, text in marks]


def _column(at, bins):
    return max(0, min(len(bins) - 1, int(at)))


def _cell(height):
    return BLOCKS[max(0, min(8, round(height * 8)))]


def _short(value):
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.1f}{letter}"
    return f"{value:.0f}"


def rows(pairs):
    return [f"  {name:<26} {value}" for name, value in pairs]


def columns(names, table):
    """`table`: [(row name, [value per name])]."""
    width = max(len(name) for name in names) + 4
    lines = [f"  {'':<26}" + "".join(f"{name:>{width}}" for name in names)]
    return lines + [f"  {row:<26}" + "".join(f"{value:>{width}}" for value in values) for row, values in table]
