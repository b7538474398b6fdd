package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/detect"
	"whodunit/internal/finding"
	"whodunit/internal/rule"
	"whodunit/internal/rule/falco"
	"whodunit/internal/scan"
)

// findingWriter writes findings in one form.
type findingWriter interface {
	write(r *detect.Result, at scan.Place) error
	end() error
}

func (c *cmdline) findingWriter(f *scanFlags, p *detect.Program) findingWriter {
	w := bufio.NewWriterSize(c.Out, 64<<10)
	switch f.form {
	case "json":
		return &jsonFindings{w: w, withEvent: f.withEvent}
	case "sarif":
		return &sarifFindings{w: w, version: c.version, set: p.Set()}
	case "falco":
		return newFalcoAlerts(w)
	}
	wide, tty := terminal(c.Out)
	columns := findingColumns()
	columns[0].pad = 20
	columns = append(columns, column{name: "WHERE", pad: 16, least: 140})
	if !tty {
		columns[3].pad = 100
	}
	return &textFindings{w: w, table: newTable(columns, wide), tty: tty}
}

// textFindings are a table. On a terminal each row is shown at once.
type textFindings struct {
	w      *bufio.Writer
	table  *table
	tty    bool
	headed bool
}

func (t *textFindings) write(r *detect.Result, at scan.Place) error {
	if !t.headed {
		t.headed = true
		fmt.Fprintln(t.w, t.table.header())
	}
	when := ""
	if at := r.Micros(); at != 0 {
		when = time.UnixMicro(at).UTC().Format(time.RFC3339)
	}
	where := at.String()
	if r.Facts != nil {
		where = several(r.Facts.Events, "event")
	}
	row := t.table.row(when, string(r.Rule.Severity), name(r.Rule), r.Message, where)
	if t.tty {
		if start, end := colour(r.Rule.Severity); start != "" {
			row = start + row + end
		}
	}
	fmt.Fprintln(t.w, row)
	if t.tty {
		return t.w.Flush()
	}
	return nil
}

// name is what people know a rule by: its id where it was given one to be read, else its title.
func name(r *rule.Rule) string {
	if r.Format == "native" {
		return r.ID
	}
	return r.Title
}

// colour marks what should wake somebody, unless NO_COLOR (no-color.org) is set.
func colour(s finding.Severity) (start, end string) {
	if os.Getenv("NO_COLOR") != "" {
		return "", ""
	}
	switch s {
	case finding.Critical:
		return "\x1b[1;31m", "\x1b[0m"
	case finding.High:
		return "\x1b[31m", "\x1b[0m"
	case finding.Medium:
		return "\x1b[33m", "\x1b[0m"
	}
	return "", ""
}

func (t *textFindings) end() error { return t.w.Flush() }

// findingDoc is one line of -o json.
type findingDoc struct {
	Time         string             `json:"time,omitempty"`
	Rule         string             `json:"rule"`
	RuleID       string             `json:"rule_id"`
	Format       string             `json:"format"`
	Severity     finding.Severity   `json:"severity"`
	Priority     string             `json:"priority"`
	Cluster      string             `json:"cluster"`
	User         string             `json:"user"`
	Impersonated string             `json:"impersonated_user,omitempty"`
	Verb         string             `json:"verb"`
	Resource     string             `json:"resource"`
	Subresource  string             `json:"subresource"`
	Namespace    string             `json:"namespace"`
	Name         string             `json:"name"`
	AuditID      string             `json:"auditID"`
	Stage        audit.Stage        `json:"stage"`
	Message      string             `json:"message"`
	Code         int                `json:"code,omitempty"`
	SourceIPs    []string           `json:"source_ips,omitempty"`
	UserAgent    string             `json:"user_agent,omitempty"`
	Tags         []string           `json:"tags,omitempty"`
	File         string             `json:"file,omitempty"`
	Line         int64              `json:"line,omitempty"`
	Number       *float64           `json:"number,omitempty"` // what a correlation compared
	Count        int                `json:"count,omitempty"`
	First        string             `json:"first,omitempty"`
	Last         string             `json:"last,omitempty"`
	Evidence     []finding.Evidence `json:"evidence,omitempty"`
	Event        json.RawMessage    `json:"event,omitempty"`
}

const stampForm = "2006-01-02T15:04:05.000000Z"

func stamp(micros int64) string {
	if micros == 0 {
		return ""
	}
	return time.UnixMicro(micros).UTC().Format(stampForm)
}

// jsonFindings are one JSON object a line.
type jsonFindings struct {
	w         *bufio.Writer
	withEvent bool
}

func (j *jsonFindings) write(r *detect.Result, at scan.Place) error {
	ev := r.Event
	d := findingDoc{
		Time: stamp(r.Micros()), Rule: r.Rule.Title, RuleID: r.Rule.ID, Format: r.Rule.Format, Severity: r.Rule.Severity, Priority: r.Rule.Priority,
		Cluster: ev.Cluster, User: ev.User.Username, Impersonated: ev.Impersonated.Username, Verb: ev.Verb, Resource: ev.ObjectRef.Resource,
		Subresource: ev.ObjectRef.Subresource, Namespace: ev.ObjectRef.Namespace, Name: ev.ObjectRef.Name, AuditID: ev.AuditID, Stage: ev.Stage, Message: r.Message,
		Code: ev.Response.Code, SourceIPs: ev.SourceIPs, UserAgent: ev.UserAgent, Tags: r.Rule.Tags, File: at.File, Line: at.Line,
	}
	if d.Priority == "" {
		d.Priority = string(d.Severity)
	}
	if r.Facts != nil {
		d.File, d.Line = "", 0 // it rests on several events, at places of their own
		d.Number, d.Count, d.First, d.Last, d.Evidence = &r.Facts.Number, r.Facts.Events, stamp(r.Facts.First), stamp(r.Facts.Last), r.Evidence
	}
	line, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("cannot encode finding of rule %s: %w", r.Rule.ID, err)
	}
	line = escaped(line)
	if !j.withEvent {
		_, err = j.w.Write(append(line, '\n'))
		return err
	}
	// The event goes in as it came: marshalling it would change it, and cost most.
	_, _ = j.w.Write(line[:len(line)-1])
	_, _ = j.w.WriteString(`,"event":`)
	_, _ = j.w.Write(escaped(oneLine(ev.Raw)))
	_, err = j.w.WriteString("}\n")
	return err
}

func (j *jsonFindings) end() error { return j.w.Flush() }

// sarifFindings are one SARIF 2.1.0 log (docs.oasis-open.org/sarif/sarif/v2.1.0). Results are kept until the end, because the rules stand
// before them.
type sarifFindings struct {
	w       *bufio.Writer
	version string
	set     *rule.Set
	rules   []sarifRule
	index   map[string]int
	results []sarifResult
	omitted int
}

// maxSarif bounds the memory; viewers take far fewer.
const maxSarif = 100_000

type sarifText struct {
	Text string `json:"text"`
}

type sarifRule struct {
	ID         string         `json:"id"`
	Name       string         `json:"name"`
	Short      sarifText      `json:"shortDescription"`
	Full       *sarifText     `json:"fullDescription,omitempty"`
	Properties map[string]any `json:"properties"`
}

type sarifResult struct {
	RuleID    string            `json:"ruleId"`
	RuleIndex int               `json:"ruleIndex"`
	Level     string            `json:"level"`
	Message   sarifText         `json:"message"`
	Locations []sarifLocation   `json:"locations"`
	Prints    map[string]string `json:"partialFingerprints"`
	Props     map[string]any    `json:"properties"`
}

type sarifLocation struct {
	Physical struct {
		Artifact struct {
			URI string `json:"uri"`
		} `json:"artifactLocation"`
		Region *sarifRegion `json:"region,omitempty"`
	} `json:"physicalLocation"`
}

type sarifRegion struct {
	StartLine int64 `json:"startLine"`
}

// sarifLevel is the nearest of SARIF's four levels.
func sarifLevel(s finding.Severity) string {
	switch s {
	case finding.Critical, finding.High:
		return "error"
	case finding.Medium:
		return "warning"
	}
	return "note"
}

func (s *sarifFindings) write(r *detect.Result, at scan.Place) error {
	if len(s.results) >= maxSarif {
		s.omitted++
		return nil
	}
	if s.index == nil {
		s.index = map[string]int{}
	}
	i, ok := s.index[r.Rule.ID]
	if !ok {
		i = len(s.rules)
		s.index[r.Rule.ID] = i
		d := sarifRule{ID: r.Rule.ID, Name: r.Rule.Title, Short: sarifText{r.Rule.Title}, Properties: map[string]any{"tags": append([]string{}, r.Rule.Tags...), "format": r.Rule.Format, "severity": r.Rule.Severity}}
		if r.Rule.Description != "" {
			d.Full = &sarifText{r.Rule.Description}
		}
		s.rules = append(s.rules, d)
	}
	res := sarifResult{RuleID: r.Rule.ID, RuleIndex: i, Level: sarifLevel(r.Rule.Severity), Message: sarifText{r.Message}, Prints: map[string]string{"identity/v1": r.Identity.String()},
		Props: map[string]any{"auditID": r.Event.AuditID, "user": r.Event.User.Username, "cluster": r.Event.Cluster, "time": stamp(r.Micros())}}
	var l sarifLocation
	if l.Physical.Artifact.URI = (&url.URL{Path: filepath.ToSlash(at.File)}).String(); at.File == "-" {
		l.Physical.Artifact.URI = "stdin"
	}
	if at.Line > 0 && r.Facts == nil {
		l.Physical.Region = &sarifRegion{at.Line}
	}
	res.Locations = []sarifLocation{l}
	s.results = append(s.results, res)
	return nil
}

func (s *sarifFindings) end() error {
	type driver struct {
		Name    string      `json:"name"`
		Version string      `json:"version"`
		Rules   []sarifRule `json:"rules"`
	}
	run := map[string]any{
		"tool":    map[string]any{"driver": driver{"whodunit", s.version, append([]sarifRule{}, s.rules...)}},
		"results": append([]sarifResult{}, s.results...),
	}
	if s.omitted > 0 {
		run["properties"] = map[string]any{"omittedResults": s.omitted}
	}
	enc := json.NewEncoder(s.w)
	enc.SetIndent("", " ")
	if err := enc.Encode(map[string]any{"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": []any{run}}); err != nil {
		return err
	}
	return s.w.Flush()
}

// falcoAlerts are Falco's own JSON alerts, one a line; findings of other formats are left out.
type falcoAlerts struct {
	w    *bufio.Writer
	host string
}

func newFalcoAlerts(w *bufio.Writer) *falcoAlerts {
	host, _ := os.Hostname()
	return &falcoAlerts{w, host}
}

func (f *falcoAlerts) write(r *detect.Result, _ scan.Place) error {
	if r.Rule.Format != "falco" {
		return nil
	}
	alert, err := falco.Alert(r.Rule, r.Event, f.host)
	if err != nil {
		return err
	}
	_, err = f.w.Write(append(escaped(alert), '\n'))
	return err
}

func (f *falcoAlerts) end() error { return f.w.Flush() }
