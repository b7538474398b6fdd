package cli

import (
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// column is one column of a table that is written row by row.
type column struct {
	name  string
	pad   int // cells that it takes where nothing limits the line
	share int // of the room that is left on a terminal; 0: it takes pad cells there too
	least int // cells of the terminal below which it is left out
}

// eventColumns and findingColumns are the tables of query, tail and findings.
func eventColumns() []column {
	return []column{{name: "TIME", pad: 23}, {name: "WHO", pad: 28, share: 3}, {name: "VERB", pad: 8}, {name: "WHAT", pad: 40, share: 5},
		{name: "CODE", pad: 4}, {name: "FROM", share: 3, least: 110}}
}

func findingColumns() []column {
	return []column{{name: "TIME", pad: 23}, {name: "SEVERITY", pad: 8}, {name: "RULE", pad: 22, share: 1, least: 80}, {name: "MESSAGE", share: 3}}
}

const gap = 2 // cells between columns

// table lays rows out. On a terminal cells are cut so that a row takes one line; elsewhere nothing is cut.
type table struct {
	columns []column
	cells   []int // of each column; 0: it is left out
	cut     bool
}

// newTable fits the columns into a terminal of so many cells; 0: no terminal.
func newTable(columns []column, wide int) *table {
	t := &table{columns: columns, cells: make([]int, len(columns)), cut: wide > 0}
	left, shares := wide+gap, 0
	for i, c := range columns {
		switch {
		case wide > 0 && wide < c.least:
			continue
		case c.share == 0 || wide == 0:
			t.cells[i] = max(c.pad, 1)
			left -= c.pad + gap
		default:
			shares += c.share
			left -= gap
			t.cells[i] = 1 // until the room is shared out
		}
	}
	if wide == 0 {
		return t
	}
	for i, c := range columns {
		if c.share > 0 && t.cells[i] > 0 {
			t.cells[i] = max(left*c.share/shares, 6)
			left, shares = left-t.cells[i], shares-c.share
		}
	}
	return t
}

// row is one line, its cells made safe for a terminal.
func (t *table) row(values ...string) string {
	var b strings.Builder
	for i, v := range values {
		if t.cells[i] == 0 {
			continue
		}
		v = printable(v, false)
		n := cells(v)
		if t.cut && n > t.cells[i] {
			v, n = shorten(v, t.cells[i])
		}
		b.WriteString(v)
		b.WriteString(strings.Repeat(" ", max(t.cells[i]-n, 0)+gap))
	}
	return strings.TrimRight(b.String(), " ")
}

func (t *table) header() string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = c.name
	}
	return t.row(names...)
}

// cells is how many cells of a terminal a printable text takes.
func cells(s string) (n int) {
	for _, r := range s {
		n += cell(r)
	}
	return n
}

func cell(r rune) int {
	if r < unicode.MaxASCII {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// shorten cuts a text to at most so many cells, the last of them an ellipsis.
func shorten(s string, most int) (string, int) {
	n := 0
	for i, r := range s {
		c := cell(r)
		if n+c > most-1 {
			return s[:i] + "…", n + 1
		}
		n += c
	}
	return s, n
}
