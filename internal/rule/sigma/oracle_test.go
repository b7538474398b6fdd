package sigma_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

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

// A want is one value of the rule after the modifiers so far.
type want struct {
	runs [][]byte // parts of a text; between two of them stands a wildcard
	wild []byte   // the wildcards, one fewer than runs
	raw  any
}

func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return fmt.Sprint(v)
}

// parse takes \*, \? and \\ for the characters; any other \ is itself.
func parse(s string) want {
	w := want{runs: [][]byte{nil}, raw: s}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s) && strings.IndexByte(`*?\`, s[i+1]) >= 0:
			i++
			c = s[i]
		case c == '*' || c == '?':
			w.wild = append(w.wild, c)
			w.runs = append(w.runs, nil)
			continue
		}
		w.runs[len(w.runs)-1] = append(w.runs[len(w.runs)-1], c)
	}
	return w
}

func (w want) pad(before, after bool) want {
	if before {
		w.runs, w.wild = append([][]byte{nil}, w.runs...), append([]byte{'*'}, w.wild...)
	}
	if after {
		w.runs, w.wild = append(slices.Clone(w.runs), nil), append(slices.Clone(w.wild), '*')
	}
	return w
}

func (w want) each(f func([]byte) []byte) want {
	r := make([][]byte, len(w.runs))
	for i, b := range w.runs {
		r[i] = f(b)
	}
	w.runs = r
	return w
}

func utf16Bytes(order binary.AppendByteOrder) func([]byte) []byte {
	return func(b []byte) (out []byte) {
		for _, u := range utf16.Encode([]rune(string(b))) {
			out = order.AppendUint16(out, u)
		}
		return out
	}
}

const dashes = "-/–—―"

func wordRune(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// windash gives all texts with each dash before a word, and not behind one, replaced by each of the five.
func windash(w want) []want {
	for i, run := range w.runs {
		prev := rune(0)
		for j, r := range string(run) {
			after := string(run[j+len(string(r)):])
			next, _ := firstRune(after)
			if strings.ContainsRune(dashes, r) && !wordRune(prev) && wordRune(next) {
				var out []want
				for _, rest := range windash(want{runs: append([][]byte{[]byte(after)}, w.runs[i+1:]...), wild: w.wild[i:]}) {
					for _, d := range dashes {
						v := want{runs: slices.Clone(w.runs[:i]), wild: w.wild}
						v.runs = append(v.runs, slices.Concat(run[:j], []byte(string(d)), rest.runs[0]))
						v.runs = append(v.runs, rest.runs[1:]...)
						out = append(out, v)
					}
				}
				return out
			}
			prev = r
		}
	}
	return []want{w}
}

func firstRune(s string) (rune, bool) {
	for _, r := range s {
		return r, true
	}
	return 0, false
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
	if has("all") && len(values) < 2 {
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

func modify(w want, m string) ([]want, error) {
	switch m {
	case "contains":
		return []want{w.pad(true, true)}, nil
	case "startswith":
		return []want{w.pad(false, true)}, nil
	case "endswith":
		return []want{w.pad(true, false)}, nil
	case "windash":
		return windash(w), nil
	case "wide", "utf16le":
		return []want{w.each(utf16Bytes(binary.LittleEndian))}, nil
	case "utf16be":
		return []want{w.each(utf16Bytes(binary.BigEndian))}, nil
	case "utf16":
		w = w.each(utf16Bytes(binary.LittleEndian))
		w.runs[0] = append([]byte("\xff\xfe"), w.runs[0]...)
		return []want{w}, nil
	case "base64", "base64offset":
		if len(w.wild) > 0 {
			return nil, errNo
		}
		if m == "base64" {
			return []want{{runs: [][]byte{[]byte(base64.StdEncoding.EncodeToString(w.runs[0]))}}}, nil
		}
		var out []want
		for i := range 3 {
			// Only the characters all of whose six bits come from the value are the same wherever it stands.
			b := base64.RawStdEncoding.EncodeToString(slices.Concat(make([]byte, i), w.runs[0]))
			from, to := (8*i+5)/6, 8*(i+len(w.runs[0]))/6
			if from < to {
				out = append(out, want{runs: [][]byte{[]byte(b[from:to])}})
			}
		}
		return out, nil
	}
	return []want{w}, nil
}

func (w want) matches(s string, cased bool) bool {
	var p []rune
	for i, r := range w.runs {
		for _, c := range string(r) {
			p = append(p, c)
		}
		if i < len(w.wild) {
			p = append(p, map[byte]rune{'*': -1, '?': -2}[w.wild[i]])
		}
	}
	if !bytes.Equal(bytes.ToValidUTF8(bytes.Join(w.runs, nil), nil), bytes.Join(w.runs, nil)) {
		return false // bytes that no text of JSON has
	}
	return naive2(p, []rune(s), cased)
}

// a name may have no backslashes: this is for patterns of conditions
func wild(p, s string, cased bool) bool { return parse(p).matches(s, cased) }

func naive2(p, s []rune, cased bool) bool {
	switch {
	case len(p) == 0:
		return len(s) == 0
	case p[0] == -1:
		return naive2(p[1:], s, cased) || len(s) > 0 && naive2(p, s[1:], cased)
	case len(s) == 0:
		return false
	case p[0] == -2 || p[0] == s[0] || !cased && strings.EqualFold(string(p[0]), string(s[0])):
		return naive2(p[1:], s[1:], cased)
	}
	return false
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

func isContainer(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

// anyLeaf tries every element of lists; with deep, everything in an event. An element of XML with attributes is its text.
func anyLeaf(v any, deep bool, f func(any) bool) bool {
	switch v := v.(type) {
	case []any:
		return slices.ContainsFunc(v, func(e any) bool { return anyLeaf(e, deep, f) })
	case several:
		return slices.ContainsFunc(v, func(e any) bool { return anyLeaf(e, deep, f) })
	case inside:
		return slices.ContainsFunc(v, func(e any) bool { return anyLeaf(e, true, f) })
	case map[string]any:
		if deep {
			return slices.ContainsFunc(slices.Collect(maps.Values(v)), func(e any) bool { return anyLeaf(e, deep, f) })
		}
		if t, ok := element(v); ok {
			return anyLeaf(t, deep, f)
		}
		return f(v)
	}
	return f(v)
}

// allNull is true of null, of an element whose text is null, and of what a path through lists gives if it is all null.
func allNull(v any) bool {
	if s, ok := v.(inside); ok {
		v = several(s)
	}
	if s, ok := v.(several); ok {
		return !slices.ContainsFunc(s, func(e any) bool { return !allNull(e) })
	}
	if m, ok := v.(map[string]any); ok {
		if t, ok := element(m); ok {
			return t == nil
		}
	}
	return v == nil
}

// element is the text of an element of XML: what has a #text, or attributes and nothing else.
func element(m map[string]any) (any, bool) {
	t, ok := m["#text"]
	_, attributes := m["#attributes"]
	return t, ok || attributes && len(m) == 1
}

// several is what a path gives that goes through a list.
type several []any

// at follows a dotted path: the longest literal name wins; a list is every element of it.
func at(v any, path string, fold bool) (any, bool) {
	if path == "" {
		return v, true
	}
	switch v := v.(type) {
	case []any:
		var out several
		for _, e := range v {
			if got, ok := at(e, path, fold); ok {
				out = append(out, got)
			}
		}
		return out, len(out) > 0
	case map[string]any:
		best := ""
		for k := range v {
			if len(k) > len(path) || len(k) < len(best) || k == "" {
				continue
			}
			head := path[:len(k)]
			if (head == k || fold && strings.EqualFold(head, k)) && (len(k) == len(path) || path[len(k)] == '.') {
				best = k
			}
		}
		if best == "" {
			return nil, false
		}
		return at(v[best], strings.TrimPrefix(path[len(best):], "."), fold)
	}
	return nil, false
}

// lookup is the order of places of docs/reference/rules-sigma.md, first with case, then without.
func lookup(event any, field string) (any, bool) {
	if m, ok := event.(auditEvent); ok {
		return m.lookup(field)
	}
	for _, fold := range []bool{false, true} {
		for _, place := range []string{"", "Event.EventData", "Event.System", "Event.UserData", "EventData", "System", "winlog.event_data",
			"winlog", "data"} {
			node, ok := at(event, place, fold && false)
			if !ok {
				continue
			}
			if place == "Event.UserData" {
				m, _ := node.(map[string]any)
				for _, k := range slices.Sorted(maps.Keys(m)) {
					if got, ok := at(m[k], field, fold); ok {
						return got, true
					}
				}
				continue
			}
			if got, ok := at(node, field, fold); ok {
				return got, true
			}
			if got, ok := named(node, field, fold); ok && strings.HasSuffix(place, "EventData") {
				return got, true
			}
		}
		for _, place := range []string{"Event.System", "System"} {
			element, attribute, ok := strings.Cut(field, "_")
			node, _ := at(event, place, false)
			if ok {
				if got, ok := at(node, element+".#attributes."+attribute, fold); ok {
					return got, true
				}
			}
		}
	}
	return nil, false
}

// named finds an element <Data Name="field"> in a list of them.
func named(node any, field string, fold bool) (any, bool) {
	list, _ := at(node, "Data", false)
	elements, _ := list.([]any)
	for _, e := range elements {
		name, ok := at(e, "#attributes.Name", false)
		if s, _ := name.(string); ok && (s == field || fold && strings.EqualFold(s, field)) {
			return e.(map[string]any)["#text"], true
		}
	}
	return nil, false
}

// auditEvent has its fields at their paths, but for the names that the published rules for Kubernetes have for some.
type auditEvent map[string]any

// inside are values of which all that stands in them counts.
type inside []any

func (m auditEvent) lookup(field string) (any, bool) {
	head, rest, _ := strings.Cut(field, ".")
	switch head {
	case "apiGroup":
		return at(map[string]any(m), "objectRef.apiGroup", false)
	case "hostPath", "capabilities":
		var out inside
		for _, v := range anywhere(m["requestObject"], head) {
			if got, ok := at(v, rest, false); ok {
				out = append(out, got)
			}
		}
		return out, len(out) > 0
	}
	return at(map[string]any(m), field, false)
}

func anywhere(v any, name string) (out []any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			out = append(out, anywhere(e, name)...)
		}
	case map[string]any:
		for k, e := range v {
			if k == name {
				out = append(out, e)
			} else {
				out = append(out, anywhere(e, name)...)
			}
		}
	}
	return out
}
