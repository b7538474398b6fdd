package detect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/finding"
	"whodunit/internal/rule"
	"whodunit/internal/rule/native"
	"whodunit/rules"
)

// catalogueRows is how many detections the catalogue has that the pack's tags (catalogue.N) name.
const catalogueRows = 80

// notShown are rows of the catalogue that the attack corpus cannot set off, and why. None, as it is; a row of it must have a rule all the same.
var notShown = map[int]string{}

// elsewhere are rows whose finding does not rest on the requests of the command that leads to it, and why.
var elsewhere = map[int]string{
	21: "that an image is pulled is said by the kubelet's event",
}

// corpus reads a recorded log that this repository holds.
func corpus(t testing.TB, name string) (out []audit.Event) {
	t.Helper()
	recording(t, filepath.Join("..", "..", "examples", name), "corpus", func(ev audit.Event) bool {
		out = append(out, ev)
		return true
	})
	return out
}

// judge runs the pack, and what lists a folder holds ("" for none), over events as a scan of a file does.
func judge(t testing.TB, events []audit.Event, lists string) (*rule.Set, []Result) {
	t.Helper()
	format, err := native.New()
	if err != nil {
		t.Fatal(err)
	}
	layers := []rule.Layer{{Name: "rules", FS: rules.FS}}
	if lists != "" {
		layers = append(layers, rule.Layer{Name: lists, FS: os.DirFS(lists)})
	}
	loaded := rule.Load(layers, format)
	set, problems := loaded.Set()
	program, more := Compile(set, ProgramOptions{})
	for _, p := range slices.Concat(loaded.Problems, problems, more) {
		t.Error(p)
	}
	var out []Result
	w, j := program.Worker(), program.Judge(JudgeOptions{Lateness: -1})
	for i := range events {
		out = append(out, j.Add(&events[i], w.Match(&events[i]))...)
	}
	return set, append(out, j.Flush()...)
}

// TestBenignCorpus holds the pack to a healthy cluster at work: test/corpus tells what goes on in it.
func TestBenignCorpus(t *testing.T) {
	events := corpus(t, "benign-1.36.log.zst")
	if len(events) < 20_000 {
		t.Errorf("only %d events", len(events))
	}
	_, results := judge(t, events, "")
	loud, byRule := 0, map[string]int{}
	for i := range results {
		r := &results[i]
		if s := r.Rule.Severity; s == finding.Info || s == finding.Low {
			byRule[string(s)+" "+r.Rule.ID]++
			continue
		}
		loud++
		byRule[string(r.Rule.Severity)+" "+r.Rule.ID]++
		if loud <= 50 {
			t.Logf("%s %s: %s (%s %s, %s)", r.Rule.Severity, r.Rule.ID, r.Message, r.Event.Verb, r.Event.RequestURI, r.Event.AuditID)
		}
	}
	t.Logf("%d events, %d findings of medium and above; all: %v", len(events), loud, byRule)
	if loud*10_000 >= len(events) {
		t.Errorf("%d findings of severity medium and above in %d events of a healthy cluster, want fewer than 1 in 10,000: %v", loud, len(events), byRule)
	}
}

type attackCommand struct {
	Row           int
	User, Command string
	IDs           []string `json:"audit_ids"`
}

func attackCommands(t testing.TB) (byRow map[int][]attackCommand) {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "examples", "attack.commands.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	byRow = map[int][]attackCommand{}
	for d := json.NewDecoder(f); ; {
		var c attackCommand
		if err := d.Decode(&c); errors.Is(err, io.EOF) {
			return byRow
		} else if err != nil {
			t.Fatal(err)
		}
		byRow[c.Row] = append(byRow[c.Row], c)
	}
}

// TestAttackCorpus wants a finding for every row of the catalogue: of a rule tagged with it, and among the requests of each command that was
// run for it. Correlations rest on many requests, so any finding of theirs will do.
func TestAttackCorpus(t *testing.T) {
	set, results := judge(t, afterLearning(t, corpus(t, "attack-1.36.log.zst")), filepath.Join("testdata", "attack"))
	tagged := map[int][]string{} // row to rules
	for _, r := range set.Rules() {
		for _, row := range rowsOf(r) {
			name := r.ID
			if r.Off != "" {
				name += " (off: " + r.Off + ")"
			}
			tagged[row] = append(tagged[row], name)
		}
	}
	found := map[string]bool{} // "row auditID" and, of correlations, "row"
	for _, r := range results {
		for _, row := range rowsOf(r.Rule) {
			found[fmt.Sprintf("%d %s", row, r.Event.AuditID)] = true
			if _, far := elsewhere[row]; far || r.Facts != nil {
				found[strconv.Itoa(row)] = true
			}
		}
	}
	commands := attackCommands(t)
	for row := 1; row <= catalogueRows; row++ {
		shown, missed := found[strconv.Itoa(row)], []string{}
		for _, c := range commands[row] {
			if slices.ContainsFunc(c.IDs, func(id string) bool { return found[fmt.Sprintf("%d %s", row, id)] }) {
				shown = true
			} else {
				missed = append(missed, c.Command)
			}
		}
		switch why, hidden := notShown[row]; {
		case shown && hidden:
			t.Errorf("row %d is shown, and the table says that it cannot be: %s", row, why)
		case hidden && len(tagged[row]) == 0:
			t.Errorf("row %d has no rule", row)
		case hidden:
		case len(commands[row]) == 0:
			t.Errorf("row %d has no command and no reason", row)
		case len(tagged[row]) == 0:
			t.Errorf("row %d has no rule: %s", row, commands[row][0].Command)
		case !shown:
			t.Errorf("row %d: none of its rules %v finds any of %q", row, tagged[row], missed)
		case len(missed) > 0 && !found[strconv.Itoa(row)]:
			t.Errorf("row %d: rules %v find nothing in %q", row, tagged[row], missed)
		}
	}
}

// afterLearning puts an older day's work before the recording: rules of what is new (row 26) are quiet while they learn what is not.
func afterLearning(t *testing.T, events []audit.Event) []audit.Event {
	t.Helper()
	const ago = int64(8 * 24 * time.Hour / time.Microsecond)
	for _, ev := range events {
		if ev.Verb == "create" && ev.ObjectRef.Resource == "deployments" && ev.ObjectRef.Namespace == "shop" {
			ev.AuditID = "8-days-before"
			ev.ReceivedMicros -= ago
			ev.StageMicros -= ago
			return append([]audit.Event{ev}, events...)
		}
	}
	t.Fatal("nobody deploys anything")
	return nil
}

// rowsOf are the rows of the catalogue that a rule is for.
func rowsOf(r *rule.Rule) (rows []int) {
	for _, tag := range r.Tags {
		if n, ok := strings.CutPrefix(tag, "catalogue."); ok {
			if row, err := strconv.Atoi(n); err == nil {
				rows = append(rows, row)
			}
		}
	}
	return rows
}
