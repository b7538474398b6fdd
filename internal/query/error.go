package query

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Error says where a query is wrong and what was expected there. It is permanent.
type Error struct {
	Query  string // as typed
	Offset int    // the byte of Query that it is about
	Msg    string // what was expected; may quote the query, so escape it where that matters
}

func fail(q string, at int, format string, args ...any) *Error {
	return &Error{Query: q, Offset: at, Msg: fmt.Sprintf(format, args...)}
}

// Column is the place counted in characters from 1.
func (e *Error) Column() int { return utf8.RuneCountInString(e.Query[:e.Offset]) + 1 }

// Error is three lines: the message, the query around the place, and a caret below it. Control characters are shown as
// spaces, so it is safe for a terminal.
func (e *Error) Error() string {
	const around = 60
	before, after := []rune(e.Query[:e.Offset]), []rune(e.Query[e.Offset:])
	lead, tail := "", ""
	if len(before) > around {
		lead, before = "…", before[len(before)-around:]
	}
	if len(after) > around {
		tail, after = "…", after[:around]
	}
	caret := strings.Repeat(" ", len([]rune(lead))+len(before)) + "^"
	return fmt.Sprintf("cannot read the query at column %d: %s\n    %s\n    %s", e.Column(), printable(e.Msg),
		lead+printable(string(before))+printable(string(after))+tail, caret)
}

// printable replaces what a terminal would act on, one character for one, so that columns stay.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}
