package rule

import (
	"fmt"
	"regexp"
	"strings"
)

// Problem is one thing wrong with one place of a rule file. It is permanent until the file changes.
type Problem struct {
	File         string
	Line, Column int    // from 1; 0 where unknown
	Rule         string // the rule's id where it is known
	Text         string // what is wrong and what was expected
	Nearest      string // the nearest known name, "" if none is near
}

// Error is `file:line:column: rule x: text (did you mean y?)`.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
		if p.Column > 0 {
			fmt.Fprintf(&b, ":%d", p.Column)
		}
	}
	b.WriteString(": ")
	if p.Rule != "" {
		fmt.Fprintf(&b, "rule %s: ", p.Rule)
	}
	b.WriteString(Shorten(p.Text, maxProblem))
	if p.Nearest != "" {
		fmt.Fprintf(&b, " (did you mean %q?)", p.Nearest)
	}
	return b.String()
}

// maxProblem is how much of a text is shown, in bytes: parsers repeat what they refuse, which may be all of a long rule.
const maxProblem = 800

// Nearest is the known name with the fewest edits from name (letters inserted, deleted, replaced, swapped; case counts for nothing), ""
// if more than a third of its letters, and more than one, would have to change.
func Nearest(name string, known []string) string {
	const longest = 100 // names are hostile, too: the work is quadratic
	if len(name) > longest {
		return ""
	}
	best, at := max(len(name)/3, 1)+1, ""
	for _, k := range known {
		if d := edits(strings.ToLower(name), strings.ToLower(k)); d < best {
			best, at = d, k
		}
	}
	return at
}

// edits is the optimal string alignment distance: two neighbours that change places count as one edit.
func edits(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range len(b) {
			d := last[j]
			if a[i] != b[j] {
				d++
			}
			row[j+1] = min(d, row[j]+1, last[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}

// maxRegexBytes bounds a pattern; a program grows with it.
const maxRegexBytes = 16 << 10

// CompileRegex compiles a pattern of a rule (RE2 syntax of package regexp), with a message for people where it cannot.
func CompileRegex(s string) (*regexp.Regexp, error) {
	if len(s) > maxRegexBytes {
		return nil, fmt.Errorf("regular expression of %d bytes; at most %d are taken", len(s), maxRegexBytes)
	}
	re, err := regexp.Compile(s)
	if err != nil {
		return nil, fmt.Errorf("not a regular expression: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return re, nil
}
