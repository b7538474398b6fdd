package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
)

// event is one line of `go test -json`; the fields are those of `go doc test2json`.
type event struct {
	Action, Package, Test, Output string
	ImportPath                    string // of build-output and build-fail
	FailedBuild                   string
	Elapsed                       float64 // seconds
}

// marker begins the reason of a test that was left out because something is missing on this machine.
const marker = "SKIPPED:"

type skip struct {
	name, reason string
	missing      bool // the reason has the marker
}

// report gathers the events and writes as they come what is final.
type report struct {
	out     io.Writer
	output  map[string]*strings.Builder // of tests and packages that have not ended, by package and test
	failed  []string
	broken  []string // packages that failed without a failed test: no build, a crash, a TestMain
	skips   []skip
	passed  int
	bad     int            // failed tests
	inTests map[string]int // failed tests by package
}

func newReport(out io.Writer) *report {
	return &report{out: out, output: map[string]*strings.Builder{}, inTests: map[string]int{}}
}

func (r *report) read(in io.Reader) error {
	buf := bufio.NewReader(in)
	for {
		line, err := buf.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil || e.Action == "" {
				fmt.Fprint(r.out, line) // the go command's own words
			} else {
				r.event(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read test output: %w", err)
		}
	}
}

func (r *report) event(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		b := r.output[key]
		if b == nil {
			b = &strings.Builder{}
			r.output[key] = b
		}
		b.WriteString(e.Output)
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "pass", "fail", "skip":
		text := ""
		if b := r.output[key]; b != nil {
			text = b.String()
			delete(r.output, key)
		}
		if e.Test == "" {
			r.packageEnd(e, text)
		} else {
			r.testEnd(e, text)
		}
	}
}

func (r *report) testEnd(e event, text string) {
	name := e.Package + "." + e.Test
	switch e.Action {
	case "pass":
		r.passed++
	case "skip":
		r.skips = append(r.skips, skip{name, reason(text), strings.Contains(text, marker)})
	case "fail":
		r.bad++
		r.inTests[e.Package]++
		r.failed = append(r.failed, name)
		fmt.Fprint(r.out, text)
	}
}

// packageEnd prints the package's closing line, and all that it said outside of tests if it failed.
func (r *report) packageEnd(e event, text string) {
	if e.Action == "fail" {
		if r.inTests[e.Package] == 0 {
			r.broken = append(r.broken, e.Package)
		}
		// A panic ends the process with tests that never ended: their output holds the trace.
		var open []string
		for key := range r.output {
			if strings.HasPrefix(key, e.Package+" ") {
				open = append(open, key)
			}
		}
		sort.Strings(open)
		for _, key := range open {
			fmt.Fprint(r.out, r.output[key].String())
			delete(r.output, key)
		}
		fmt.Fprint(r.out, text)
		return
	}
	if e.Action == "skip" && strings.Contains(text, "[no test files]") {
		return
	}
	for _, line := range strings.SplitAfter(text, "\n") {
		if strings.HasPrefix(line, "ok ") || strings.HasPrefix(line, "?") {
			fmt.Fprint(r.out, line)
		}
		if strings.Contains(line, marker) { // a TestMain that left its package out
			r.skips = append(r.skips, skip{e.Package, reason(line), true})
		}
	}
}

// reason is what the test said, without the lines that go test adds.
func reason(text string) string {
	var said []string
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		if _, after, ok := strings.Cut(line, marker); ok {
			return strings.TrimSpace(after)
		}
		said = append(said, line)
	}
	if len(said) == 0 {
		return "no reason given"
	}
	return said[len(said)-1]
}

// close prints the summary and tells whether all is well. strict: a missing part is a failure.
func (r *report) close(strict bool) bool {
	good := len(r.failed) == 0 && len(r.broken) == 0
	missing := 0
	if len(r.skips) > 0 {
		fmt.Fprintf(r.out, "\nSkipped, and why:\n")
		for _, s := range r.skips {
			if s.missing {
				missing++
			}
			fmt.Fprintf(r.out, "  %s: %s\n", s.name, s.reason)
		}
	}
	if strict && missing > 0 {
		good = false
		fmt.Fprintf(r.out, "\nFAIL: %d tests miss something that CI must have\n", missing)
	}
	if !good {
		fmt.Fprintf(r.out, "\nFailed:\n")
		for _, f := range r.failed {
			fmt.Fprintf(r.out, "  %s\n", f)
		}
		for _, p := range r.broken {
			fmt.Fprintf(r.out, "  %s (no test of it failed: it does not build, or ended early)\n", p)
		}
	}
	if r.passed+r.bad == 0 {
		good = false
		fmt.Fprintln(r.out, "FAIL: no test ran")
	}
	fmt.Fprintf(r.out, "\ntests: %d passed, %d failed, %d skipped\n", r.passed, r.bad+len(r.broken), len(r.skips))
	return good
}
