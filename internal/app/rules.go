package app

import (
	"cmp"
	"context"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"whodunit/internal/api"
	"whodunit/internal/config"
	"whodunit/internal/correlate"
	"whodunit/internal/detect"
	"whodunit/internal/match"
	"whodunit/internal/rule"
	"whodunit/internal/rule/falco"
	"whodunit/internal/rule/label"
	"whodunit/internal/rule/native"
	"whodunit/internal/rule/parseable"
	"whodunit/internal/rule/sigma"
	"whodunit/rules"
)

// Level is the slog level of a configured word.
func Level(word string) slog.Level {
	var l slog.Level
	if l.UnmarshalText([]byte(word)) != nil {
		return slog.LevelInfo // validated before
	}
	return l
}

// makeRules loads the rules and builds the detector behind its cursor.
func (a *App) makeRules() error {
	metrics := detect.NewMetrics(a.reg)
	compiled := new(detect.Compiled)
	program := detect.ProgramOptions{FalcoFirst: a.cfg.Rules.FalcoMatching == "first"}
	a.newRules = func(c config.Rules) (*detect.Rules, error) {
		layers, err := layers(c)
		if err != nil {
			return nil, err
		}
		formats, err := RuleFormats(RuleOptions{FalcoCompat: c.FalcoCompat, NoWebsocketVerbs: !c.WebsocketVerbs})
		if err != nil {
			return nil, err
		}
		return detect.NewRules(detect.RulesOptions{Layers: layers, Formats: formats, Current: &a.current, Compiled: compiled, Program: program,
			Metrics: metrics, Logger: a.o.Log}), nil
	}
	var err error
	if a.rules, err = a.newRules(a.cfg.Rules); err != nil {
		return err
	}
	a.rules.Reload() // what is wrong is in the log; the good rules run
	cursor, err := a.events.Cursor("detect", 1)
	if err != nil {
		return err
	}
	from := cursor.Next()
	lateness, reach := time.Duration(a.cfg.Rules.Lateness), compiled.Load().Reach()
	if reach > 0 {
		reach += lateness // what still waits is read again
	}
	start, err := a.refillFrom(from, reach)
	if err != nil {
		return err
	}
	a.detectReader = a.events.Reader(start)
	a.detector, err = detect.New(detect.Options{
		Reader: a.remembering(a.detectReader, compiled.Load(), start), Rules: &a.current, Emit: a.findings.Append, From: from, Program: program, Compiled: compiled, Metrics: metrics, Logger: a.o.Log, Own: a.ownRequest,
		Judge: detect.JudgeOptions{Lateness: lateness, Correlations: correlate.NewMetrics(a.reg)},
		Save:  func(_ context.Context, next uint64) error { return cursor.Save(next) },
	})
	return err
}

// layers are the places that rules come from: the shipped pack first, so that a user's rule of the same id replaces one.
func layers(c config.Rules) ([]rule.Layer, error) {
	var out []rule.Layer
	if c.DefaultPack {
		out = append(out, ShippedRules())
	}
	for _, p := range c.Paths {
		l, err := rule.OpenLayer(p)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// ShippedRules is the layer of the pack inside the binary.
func ShippedRules() rule.Layer { return rule.Layer{Name: "shipped", FS: rules.FS} }

// RuleOptions say how rules of formats with a choice are read. The zero value is for audit events.
type RuleOptions struct {
	Generic          bool   // events are any JSON objects, rules of every log source are taken
	FalcoCompat      string // "corrected" (or ""), or "upstream"
	Tests            bool   // the rules' own tests are read, too: for who runs or counts them
	NoWebsocketVerbs bool   // Sigma rules that ask for create on exec, attach and portforward do not mean get as well
	// SigmaPlaceholders are what Sigma's |expand puts in, by name.
	SigmaPlaceholders map[string][]string
}

// RuleFormats is every rule language, in the order in which they are asked whether a document is theirs. The first explains
// documents that none claims.
func RuleFormats(o RuleOptions) ([]rule.Format, error) {
	n, err := NativeFormat(o)
	if err != nil {
		return nil, err
	}
	f, err := falco.New(falco.Options{Compat: o.FalcoCompat})
	if err != nil {
		return nil, err
	}
	s := sigma.New(sigma.Options{Generic: o.Generic, WebsocketVerbs: !o.NoWebsocketVerbs, Placeholders: o.SigmaPlaceholders})
	return []rule.Format{n, f, s, parseable.New(parseable.Options{Generic: o.Generic}), label.New(label.Options{Generic: o.Generic})}, nil
}

// NativeFormat is the native front end, which knows the other formats' computed fields: rules that were converted name them.
func NativeFormat(o RuleOptions) (*native.Format, error) {
	return native.NewWith(native.Options{NoTests: !o.Tests, Fields: func(name string) *match.Field {
		return cmp.Or(falco.Field(name), sigma.Field(name), parseable.Field(name))
	}})
}

// setRules takes over other places of rules. On an error those in force stay.
func (a *App) setRules(old, next config.Rules) error {
	if reflect.DeepEqual(old, next) {
		return nil
	}
	r, err := a.newRules(next)
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.rules = r
	a.mu.Unlock()
	r.Reload()
	select {
	case a.rulesChanged <- struct{}{}:
	default:
	}
	return nil
}

// watchRules watches the folders of the rules in force, and of others when the configuration names others.
func (a *App) watchRules(ctx context.Context) error {
	for ctx.Err() == nil {
		wctx, stop := context.WithCancel(ctx)
		a.mu.Lock()
		r := a.rules
		a.mu.Unlock()
		ended := make(chan error, 1)
		go func() { ended <- r.Watch(wctx) }()
		var err error
		select {
		case err = <-ended:
		case <-a.rulesChanged:
			stop()
			err = <-ended
		case <-ctx.Done():
			stop()
			err = <-ended
		}
		stop()
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *App) ruleList(context.Context) ([]api.Rule, error) {
	var out []api.Rule
	for _, r := range a.current.Load().Rules() {
		if r.Silent && strings.Contains(r.ID, "#") { // a part of a correlation, which nobody wrote as a rule
			continue
		}
		out = append(out, api.Rule{ID: r.ID, Title: r.Title, Description: r.Description, Severity: string(r.Severity), Tags: r.Tags,
			Format: r.Format, File: r.File, Enabled: r.Off == ""})
	}
	return out, nil
}
