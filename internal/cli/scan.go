package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"whodunit/internal/detect"
	"whodunit/internal/finding"
	"whodunit/internal/rule"
	"whodunit/internal/scan"
)

// scanFlags are what scan is told.
type scanFlags struct {
	ruleSource
	form, input, cluster, falco string
	failOn, least               string
	withEvent, strict, quiet    bool
	workers, maxLine            int
}

func (c *cmdline) scanCmd() *cobra.Command {
	var f scanFlags
	cmd := &cobra.Command{
		Use:   "scan [FILE...]",
		Short: "Run detection rules over files of audit events",
		Long: `Runs the shipped rules, and those of --rules, over files, or over standard input (no FILE, or -). Files may be plain, gzip or zstd; the form of the
events is found out line by line: audit logs, EventLists, and what the cloud providers and log shippers wrap round events. Several files are one stream: name
them in the order of time.

Rules may be whodunit's own, Falco's, Sigma's, Parseable's and labels; a folder may hold all of them. With --input generic the events are any JSON objects, one a
line or in arrays, and Sigma rules of every log source are run.

Lines that are no events are counted and shown, and end nothing.

Exit status: 0 no finding at or above --fail-on, 1 some, 2 trouble: a file that cannot be read, not one event among bad lines, no rule to run, with --strict any
problem in a rule.`,
		Example: `  whodunit scan audit.log.gz
  whodunit scan --rules ./sigma --rules falco_rules.yaml --fail-on high audit.log -o json
  kubectl logs -n kube-system kube-apiserver-0 | whodunit scan -`,
		RunE: func(cmd *cobra.Command, args []string) error { return c.scan(cmd, &f, args) },
	}
	f.ruleSource.flags(cmd)
	outFlag(cmd, &f.form, "text", "json", "sarif", "falco")
	words := finding.SeverityWords()
	fl := cmd.Flags()
	fl.StringVar(&f.falco, "falco-matching", "all", "of the Falco rules that an event satisfies, report all or the first, as Falco does by default")
	fl.StringVar(&f.input, "input", "audit", "what the events are: audit, or generic for any JSON objects")
	fl.StringVar(&f.cluster, "cluster", "", "the cluster's name, for events that do not come with one")
	fl.StringVar(&f.failOn, "fail-on", "info", "the least severity that makes the exit status 1: "+strings.Join(words, ", ")+", none")
	fl.StringVar(&f.least, "min-severity", "info", "report findings of this severity and above")
	fl.BoolVar(&f.withEvent, "with-event", false, "with -o json: put the whole event of each finding under `event`")
	fl.BoolVar(&f.strict, "strict", false, "a problem in any rule is trouble")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "say nothing but findings and trouble")
	fl.IntVar(&f.workers, "workers", 0, "processors to use (default all)")
	fl.IntVar(&f.maxLine, "max-line-bytes", scan.DefaultMaxLine, "longer lines are counted, not read")
	for name, known := range map[string][]string{"falco-matching": {"all", "first"}, "input": {"audit", "generic"}, "fail-on": slices.Concat(words, []string{"none"}), "min-severity": words} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(known, cobra.ShellCompDirectiveNoFileComp))
		oneOf(cmd, name, known)
	}
	return cmd
}

// oneOf refuses other words for a flag.
func oneOf(cmd *cobra.Command, name string, known []string) {
	pre := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if v := cmd.Flag(name).Value.String(); !slices.Contains(known, v) {
			hint := ""
			if near := rule.Nearest(v, known); near != "" {
				hint = fmt.Sprintf("; did you mean %s?", near)
			}
			return fmt.Errorf("--%s %q: one of %s is expected%s", name, v, strings.Join(known, ", "), hint)
		}
		if pre != nil {
			return pre(cmd, args)
		}
		return nil
	}
}

func (c *cmdline) scan(cmd *cobra.Command, f *scanFlags, args []string) error {
	defer c.roomy()()
	program, err := c.program(f)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{"-"}
	}
	out := c.findingWriter(f, program)
	bad := &shownBad{w: c.Err, quiet: f.quiet}
	bar := c.progress(args)
	failed, least, failOn := false, finding.Severity(f.least).Rank(), finding.Severity(f.failOn).Rank() // failOn is 0 for none
	start := c.Now()
	stats, err := scan.Run(cmd.Context(), c.scanInputs(args), scan.Options{
		Program: program, Cluster: f.cluster, Generic: f.o.Generic, Workers: f.workers, MaxLine: f.maxLine, Progress: bar.add,
		Bad: func(at scan.Place, line []byte, err error) { bar.clear(); bad.show(at, line, err) },
		Result: func(r *detect.Result, at scan.Place) error {
			severity := r.Rule.Severity.Rank()
			failed = failed || failOn > 0 && severity >= failOn
			if severity < least {
				return nil
			}
			bar.clear()
			return out.write(r, at)
		},
	})
	bar.done()
	if e := out.end(); err == nil {
		err = e
	}
	if !f.quiet {
		c.scanned(program, &stats, c.Now().Sub(start))
	}
	switch {
	case err != nil && cmd.Context().Err() != nil:
		return errors.New("interrupted: what was found stands for the part that was read")
	case err != nil:
		return err
	case stats.Events == 0 && len(stats.Bad) > 0: // an all-clear about nothing would be a lie
		hint := "; --input generic takes any JSON objects"
		if f.o.Generic {
			hint = ""
		}
		return fmt.Errorf("nothing in %s is an event%s", several(int(stats.Lines), "line"), hint)
	case failed:
		return errFound
	}
	return nil
}

// program loads and compiles the rules; what is wrong with some is said.
func (c *cmdline) program(f *scanFlags) (*detect.Program, error) {
	f.o.Generic = f.input == "generic"
	if f.o.Generic {
		f.shipped = false // they are about audit events
	}
	defer c.loading()()
	_, set, problems, err := f.load()
	if err != nil {
		return nil, err
	}
	p, refused := detect.Compile(set, detect.ProgramOptions{FalcoFirst: f.falco == "first", Generic: f.o.Generic})
	problems = append(problems, refused...)
	sayProblems(c.Err, problems)
	if f.strict && len(problems) > 0 {
		return nil, fmt.Errorf("%s in the rules, and --strict takes none", several(len(problems), "problem"))
	}
	if single, correlations := p.Rules(); single+correlations == 0 {
		return nil, errors.New("there is no rule to run: name some with --rules")
	}
	return p, nil
}

func (c *cmdline) scanInputs(paths []string) []scan.Input {
	var out []scan.Input
	for _, p := range paths {
		in := scan.Input{Name: p, Open: func() (io.ReadCloser, error) {
			if st, err := os.Stat(p); err == nil && st.IsDir() {
				return nil, errors.New("it is a folder: name its files in the order of time")
			}
			return os.Open(p)
		}}
		if p == "-" {
			in = scan.Input{Name: "-", Open: func() (io.ReadCloser, error) { return io.NopCloser(c.In), nil }}
		}
		out = append(out, in)
	}
	return out
}

// scanned says what a scan saw.
func (c *cmdline) scanned(p *detect.Program, s *scan.Stats, took time.Duration) {
	single, correlations := p.Rules()
	text := fmt.Sprintf("%s, %s, %s of %d rules", several(int(s.Lines), "line"), several(int(s.Events), "event"), several(int(s.Findings), "finding"), single+correlations)
	var bad int64
	for _, n := range s.Bad {
		bad += n
	}
	if bad > 0 {
		text += fmt.Sprintf("; %d bad (%s)", bad, counts(s.Bad))
	}
	if len(s.Skipped) > 0 {
		text += fmt.Sprintf("; passed over: %s", counts(s.Skipped))
	}
	if len(s.Forgotten) > 0 {
		text += fmt.Sprintf("; correlations had too little memory: %s", counts(s.Forgotten))
	}
	if seconds := took.Seconds(); seconds > 0.5 {
		text += fmt.Sprintf("; %.1f s, %.0f MB/s", seconds, float64(s.Bytes)/1e6/seconds)
	}
	fmt.Fprintln(c.Err, printable(text, false))
	for _, id := range slices.Sorted(maps.Keys(s.Rules)) {
		e := s.Rules[id]
		fmt.Fprintln(c.Err, printable(fmt.Sprintf("rule %s could not decide about %s: %.300s", id, several(int(e.Count), "event"), e.First.Error()), false))
	}
}

// shownBad shows the first bad lines. How many there were is said at the end.
type shownBad struct {
	w     io.Writer
	quiet bool
	n     int
}

func (b *shownBad) show(at scan.Place, line []byte, err error) {
	const most = 5
	if b.n++; b.quiet || b.n > most {
		return
	}
	fmt.Fprintln(b.w, printable(fmt.Sprintf("%s: %v: %.80q", at, err, line), false))
	if b.n == most {
		fmt.Fprintln(b.w, "further bad lines are only counted")
	}
}

// counts lists reasons with their numbers, the most frequent first.
func counts(m map[string]int64) string {
	reasons := slices.SortedFunc(maps.Keys(m), func(a, b string) int { return cmp.Or(cmp.Compare(m[b], m[a]), strings.Compare(a, b)) })
	for i, r := range reasons {
		reasons[i] = fmt.Sprintf("%d %s", m[r], r)
	}
	return strings.Join(reasons, ", ")
}
