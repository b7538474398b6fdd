package sigma_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// The oracle says what a rule means by the text of the specification (v2.1.0) and docs/reference/rules-sigma.md, as plainly as it can
// be said: maps, recursion, one value after the other. It shares nothing with the package, and knows no limits and no speed.

type oracle struct {
	detections map[string]any
	conditions []string
}

func newOracle(rule string) (*oracle, error) {
	var doc struct {
		Detection map[string]any `yaml:"detection"`
	}
	if err := yaml.Unmarshal([]byte(rule), &doc); err != nil {
		return nil, err
	}
	o := &oracle{detections: doc.Detection}
	switch c := doc.Detection["condition"].(type) {
	case string:
		o.conditions = []string{c}
	case []any:
		for _, v := range c {
			o.conditions = append(o.conditions, v.(string))
		}
	}
	delete(o.detections, "condition")
	_, err := o.match(map[string]any{}) // what is wrong with a rule shows with any event
	return o, err
}

func (o *oracle) match(event any) (bool, error) {
	verdict := false
	truth := map[string]bool{}
	for name, d := range o.detections {
		t, err := search(d, event)
		if err != nil {
			return false, fmt.Errorf("%s: %w", name, err)
		}
		truth[name] = t
	}
	for _, c := range o.conditions {
		p := condition{words: strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(c)), truth: truth}
		t := p.or()
		if p.err == nil && len(p.words) > 0 {
			p.err = errors.New("words are left")
		}
		if p.err != nil {
			return false, p.err
		}
		verdict = verdict || t
	}
	return verdict, nil
}

// condition is a recursive descent over words: or binds least, then and, not, x of.
type condition struct {
	words []string
	truth map[string]bool
	err   error
}

func (p *condition) peek() string {
	if len(p.words) == 0 {
		return ""
	}
	return p.words[0]
}

func (p *condition) next() string {
	w := p.peek()
	p.words = p.words[min(1, len(p.words)):]
	return w
}

func (p *condition) or() bool {
	t := p.and()
	for p.peek() == "or" {
		p.next()
		u := p.and()
		t = t || u
	}
	return t
}

func (p *condition) and() bool {
	t := p.not()
	for p.peek() == "and" {
		p.next()
		u := p.not()
		t = t && u
	}
	return t
}

func (p *condition) not() bool {
	if p.peek() == "not" {
		p.next()
		return !p.not()
	}
	w := p.next()
	if w == "(" {
		t := p.or()
		if p.next() != ")" {
			p.err = errors.New("no )")
		}
		return t
	}
	if (w == "1" || w == "any" || w == "all") && p.peek() == "of" {
		p.next()
		return p.of(w == "all", p.next())
	}
	t, ok := p.truth[w]
	if !ok {
		p.err = fmt.Errorf("no %q", w)
	}
	return t
}

func (p *condition) of(all bool, pattern string) bool {
	hidden := strings.HasPrefix(pattern, "_")
	if pattern == "them" {
		pattern = "*"
	}
	n, yes := 0, 0
	for name, t := range p.truth {
		if strings.HasPrefix(name, "_") && !hidden || !wild(pattern, name, true) {
			continue
		}
		n++
		if t {
			yes++
		}
	}
	if n == 0 {
		p.err = fmt.Errorf("%s is none", pattern)
	}
	return all && yes == n || !all && yes > 0
}

// search: a map is AND, a list is OR; what is neither is a keyword.
func search(d, event any) (bool, error) {
	switch d := d.(type) {
	case map[string]any:
		verdict := true
		for key, v := range d {
			t, err := item(key, v, event)
			if err != nil {
				return false, fmt.Errorf("%s: %w", key, err)
			}
			verdict = verdict && t
		}
		return verdict, nil
	case []any:
		verdict := false
		for _, v := range d {
			t, err := search(v, event)
			if err != nil {
				return false, err
			}
			verdict = verdict || t
		}
		return verdict, nil
	}
	return item("", d, event)
}

var errNo = errors.New("not allowed")

// item is one `field|modifier|…: values` of a map.
func item(key string, v, event any) (bool, error) {
	parts := strings.Split(key, "|")
	field, mods := parts[0], parts[1:]
	has := func(m string) bool { return slices.Contains(mods, m) }
	values, list := v.([]any)
	if !list {
		values = []any{v}
	}
	if has("all") && len(values) < 2 && !strings.Contains(field, "[") {
		return false, errNo
	}
	node := event
	if m, ok := event.(auditEvent); ok {
		node = map[string]any(m)
	}
	found := true
	if field != "" {
		node, found = lookup(event, field)
	}
	if sel := selectorRE.FindStringSubmatch(field); sel != nil { // only rules of sigma-version 3 are given such names
		nodes := alternatives(lookup(event, sel[1]))
		for sel != nil {
			k, err := strconv.Atoi(sel[2])
			if err != nil {
				return array(nodes, sel[2], sel[3], mods, v)
			}
			nodes = pickIndex(nodes, k)
			path := sel[3]
			if sel = selectorRE.FindStringSubmatch(path); sel != nil {
				path = sel[1]
			}
			var next []any
			for _, n := range nodes {
				next = append(next, alternatives(at(n, path, false))...)
			}
			nodes = next
		}
		node, found = several(nodes), len(nodes) > 0
	}
	truths := 0
	for _, value := range values {
		t, err := one(value, mods, field == "", node, found, event)
		if err != nil {
			return false, err
		}
		if t {
			truths++
		}
	}
	t := truths > 0
	if has("all") {
		t = truths == len(values)
	}
	return t != has("neq"), nil
}

func one(value any, mods []string, keyword bool, node any, found bool, event any) (bool, error) {
	has := func(m string) bool { return slices.Contains(mods, m) }
	if has("exists") {
		b, ok := value.(bool)
		if !ok {
			return false, errNo
		}
		return found == b, nil
	}
	if value == nil {
		if len(mods) > 0 && !slices.Equal(mods, []string{"neq"}) {
			return false, errNo
		}
		// A null in a list is no value, and the list is there.
		return !found || node == nil || allNull(node), nil
	}
	for _, op := range []string{"lt", "lte", "gt", "gte"} {
		if has(op) || op == "lt" && slices.ContainsFunc(mods, timePart) && !slices.ContainsFunc(mods, ordering) {
			return order(text(value), op, mods, node, found)
		}
	}
	if has("fieldref") {
		return fieldref(text(value), mods, node, found, event)
	}
	test, star, err := tester(value, mods, keyword)
	if err != nil || !found {
		return false, err
	}
	if star { // `field: '*'` asks whether it is there and not null
		return !allNull(node), nil
	}
	return anyLeaf(node, keyword, func(v any) bool {
		if v == nil || isContainer(v) {
			return false
		}
		return test(text(v))
	}), nil
}

// tester makes the test of one text, the modifiers applied in their order.
func tester(value any, mods []string, keyword bool) (test func(string) bool, star bool, err error) {
	flags := ""
	for _, m := range mods {
		if m == "i" || m == "m" || m == "s" {
			flags += m
		}
	}
	if slices.Contains(mods, "re") {
		p := text(value)
		if flags != "" {
			p = "(?" + flags + ")" + p
		}
		re, err := regexp.Compile(p)
		if err != nil {
			return nil, false, err
		}
		return re.MatchString, false, nil
	}
	if slices.Contains(mods, "cidr") {
		net, err := netip.ParsePrefix(text(value))
		if err != nil {
			return nil, false, err
		}
		if a := net.Addr(); a.Is4In6() && net.Bits() >= 96 {
			net = netip.PrefixFrom(a.Unmap(), net.Bits()-96)
		}
		return func(s string) bool {
			ip, err := netip.ParseAddr(s)
			return err == nil && (net.Contains(ip.WithZone("")) || net.Contains(ip.Unmap().WithZone("")))
		}, false, nil
	}
	wants := []want{parse(text(value))}
	for _, m := range mods {
		var out []want
		for _, w := range wants {
			got, err := modify(w, m)
			if err != nil {
				return nil, false, err
			}
			out = append(out, got...)
		}
		wants = out
	}
	for _, w := range wants {
		star = star || len(w.wild) > 0 && strings.Trim(string(w.wild), "*") == "" && len(bytes.Join(w.runs, nil)) == 0
	}
	if star && keyword {
		return nil, false, errors.New("a keyword that every event has")
	}
	cased := slices.Contains(mods, "cased")
	return func(s string) bool {
		return slices.ContainsFunc(wants, func(w want) bool {
			if keyword {
				w = w.pad(true, true)
			}
			return w.matches(s, cased)
		})
	}, star, nil
}

func ordering(m string) bool { return slices.Contains([]string{"lt", "lte", "gt", "gte"}, m) }

func timePart(m string) bool {
	return slices.Contains([]string{"minute", "hour", "day", "week", "month", "year"}, m)
}

// order compares numbers, or a part of a time as it is written.
func order(value, op string, mods []string, node any, found bool) (bool, error) {
	want, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return false, err
	}
	part := slices.IndexFunc(mods, timePart)
	return found && anyLeaf(node, false, func(v any) bool {
		if v == nil || isContainer(v) {
			return false
		}
		got, err := strconv.ParseFloat(text(v), 64)
		if !json.Valid([]byte(text(v))) {
			err = errNo // what reads as a number is what JSON takes for one
		}
		if part >= 0 {
			var t time.Time
			s := strings.Replace(text(v), " ", "T", 1)
			if t, err = time.Parse(time.RFC3339Nano, s); err != nil {
				t, err = time.Parse("2006-01-02T15:04:05", s)
			}
			if err == nil {
				_, week := t.ISOWeek()
				got = float64(map[string]int{"minute": t.Minute(), "hour": t.Hour(), "day": t.Day(), "week": week, "month": int(t.Month()),
					"year": t.Year()}[mods[part]])
			}
		}
		if err != nil {
			return false
		}
		if !slices.ContainsFunc(mods, ordering) {
			return got == want
		}
		return op == "lt" && got < want || op == "lte" && got <= want || op == "gt" && got > want || op == "gte" && got >= want
	}), nil
}

func fieldref(other string, mods []string, node any, found bool, event any) (bool, error) {
	there, ok := lookup(event, other)
	if !found || !ok {
		return false, nil
	}
	return anyLeaf(node, false, func(v any) bool {
		return v != nil && !isContainer(v) && anyLeaf(there, false, func(u any) bool {
			if u == nil || isContainer(u) {
				return false
			}
			w := want{runs: [][]byte{[]byte(text(u))}}
			for _, m := range mods {
				if m == "contains" || m == "startswith" || m == "endswith" {
					w = w.pad(m != "startswith", m != "endswith")
				}
			}
			return w.matches(text(v), slices.Contains(mods, "cased"))
		})
	}), nil
}
