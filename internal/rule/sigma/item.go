package sigma

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// Limits on hostile values.
const (
	maxRegex    = 32 << 10 // bytes of one regular expression
	maxVariants = 5_000    // of one value, by windash, encodings and placeholders
)

// Tags of YAML scalars.
const (
	tagString = "!!str"
	tagInt    = "!!int"
	tagFloat  = "!!float"
	tagBool   = "!!bool"
	tagNull   = "!!null"
)

// item compiles one field, with its modifiers, and its values. key is where it stands.
func (c *compiler) item(key *yaml.Node, name string, mods []string, value *yaml.Node) (match.Expr, error) {
	ch, err := parseChain(mods)
	if err != nil {
		return nil, at(key, err)
	}
	if c.version >= 3 {
		sel, err := parseSelector(name)
		if err != nil {
			return nil, at(key, err)
		}
		if sel != nil {
			return c.selected(key, sel, mods, value)
		}
		name = unescapeBrackets.Replace(name)
	}
	value = resolve(value)
	if value.Kind == yaml.MappingNode {
		return nil, at(value, errors.New("a value or a list of values is expected, not a map; an array's members are matched by field[any], with sigma-version: 3"))
	}
	values := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode {
		values = value.Content
		if len(values) == 0 {
			return nil, at(value, errors.New("the list of values is empty"))
		}
	}
	if ch.has["all"] && len(values) == 1 {
		return nil, at(key, errors.New("modifier all needs a list of at least two values"))
	}
	t := anyValue
	if name != "" {
		t = c.lookup(name)
		c.need(t)
	} else if err := keywordChain(ch); err != nil {
		return nil, at(key, err)
	}
	if ch.part != "" {
		t = timeTarget(t, ch.part)
	}
	x, err := c.link(t, ch, values, name == "")
	if err != nil {
		return nil, err
	}
	if ch.has["neq"] {
		x = match.Not{X: x}
	}
	return x, nil
}

func keywordChain(ch chain) error {
	for _, w := range []string{"exists", "fieldref", "cidr"} {
		if ch.has[w] {
			return fmt.Errorf("modifier %s needs a field", w)
		}
	}
	if ch.order != 0 || ch.part != "" {
		return errors.New("numbers and times are compared with a field's, not with a keyword")
	}
	return nil
}

// link joins the values: any of them, or with all every one.
func (c *compiler) link(t *target, ch chain, values []*yaml.Node, keyword bool) (match.Expr, error) {
	var g group
	var and match.And
	for _, n := range values {
		n = resolve(n)
		if n.Kind != yaml.ScalarNode {
			return nil, at(n, errors.New("a value is expected here, not a map or a list"))
		}
		if err := c.value(&g, t, ch, n, keyword); err != nil {
			return nil, at(n, err)
		}
		if c.budget -= 1 + g.fresh; c.budget < 0 {
			return nil, at(n, errTooBig)
		}
		g.fresh = 0
		if ch.has["all"] {
			and = append(and, g.expr())
			g = group{}
		}
	}
	if ch.has["all"] {
		return and, nil
	}
	return g.expr(), nil
}

// group collects alternatives; constants of one operator on one field make one predicate.
type group struct {
	preds []*match.Pred
	other match.Or
	fresh int // constants since the last look
}

func (g *group) add(p *match.Pred) {
	g.fresh += len(p.Values)
	for _, q := range g.preds {
		if q.Op == p.Op && q.Fold == p.Fold && q.Path == p.Path && q.Field == p.Field && len(p.Values) > 0 && !single(p.Op) {
			for _, v := range p.Values {
				if len(q.Values) > 64 || !slices.Contains(q.Values, v) {
					q.Values = append(q.Values, v)
				}
			}
			return
		}
	}
	g.preds = append(g.preds, p)
}

// single reports whether the operator takes exactly one constant.
func single(op match.Op) bool { return op >= match.Less && op <= match.GreaterEqual }

func (g *group) expr() match.Expr {
	out := make(match.Or, 0, len(g.preds)+len(g.other))
	for _, p := range g.preds {
		p.Values = slices.Clip(p.Values)
		out = append(out, p)
	}
	out = append(out, g.other...)
	if len(out) == 1 {
		return out[0]
	}
	return out
}

// value adds the alternatives of one value to g.
func (c *compiler) value(g *group, t *target, ch chain, n *yaml.Node, keyword bool) error {
	switch {
	case ch.has["exists"]:
		yes, err := boolean(n)
		if err != nil {
			return err
		}
		if p := t.pred(match.Present, false); yes {
			g.add(p)
		} else {
			g.other = append(g.other, match.Not{X: p})
		}
		return nil
	case n.Tag == tagNull:
		if keyword || len(ch.rewrite) > 0 || ch.order != 0 || ch.has["re"] || ch.has["cidr"] || ch.has["fieldref"] {
			return errors.New("a value is expected here, not null")
		}
		g.other = append(g.other, match.Not{X: t.pred(match.Exists, false)})
		return nil
	case ch.order != 0 || ch.part != "":
		v, err := number(n)
		if err != nil {
			return err
		}
		op := ch.order
		if op == 0 {
			op = match.Equal
		}
		g.add(t.pred(op, false, v))
		return nil
	case ch.has["fieldref"]:
		g.other = append(g.other, c.fieldref(t, ch, n.Value))
		return nil
	}
	texts := []string{n.Value}
	if ch.has["expand"] {
		var err error
		if texts, err = c.expand(n.Value); err != nil {
			return err
		}
	}
	for _, s := range texts {
		var err error
		switch {
		case ch.has["re"]:
			err = c.regex(g, t, ch, s)
		case ch.has["cidr"]:
			err = network(g, t, s)
		case n.Tag != tagString && len(ch.rewrite) == 0 && !keyword:
			g.add(t.pred(match.Equal, n.Tag == tagBool || hasLetter(s), scalars(n)...))
		default:
			err = c.text(g, t, ch, s, keyword)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// text adds a string with wildcards.
func (c *compiler) text(g *group, t *target, ch chain, s string, keyword bool) error {
	alternatives, err := rewrite(parsePattern(s), ch.rewrite)
	if err != nil {
		return err
	}
	fold := !ch.has["cased"]
	for _, p := range alternatives {
		if keyword {
			if p = p.open(true, true); len(p) == 1 {
				return errors.New("an empty keyword matches every event")
			}
		}
		if p.dashes() > 0 {
			c.addRegex(g, t, p.regex(fold))
			continue
		}
		op, v, ok := p.shape()
		if !ok {
			g.add(t.pred(match.Exists, false))
			continue
		}
		if op == match.Equal && c.scope.kubernetes && !c.scope.element && t.name == "responseStatus.code" && strings.EqualFold(v, "ALLOW") {
			g.other = append(g.other, c.allowed(t))
		}
		g.add(t.pred(op, fold && hasLetter(v), c.intern(v)))
	}
	return nil
}

// allowed is SigmaHQ's responseStatus.code: ALLOW in a native event: the authorizer said so, or the request succeeded.
func (c *compiler) allowed(code *target) match.Expr {
	return match.Or{
		c.lookup("annotations."+audit.AnnotationDecision).pred(match.Equal, true, "allow"),
		match.And{code.pred(match.GreaterEqual, false, "200"), code.pred(match.Less, false, "300")},
	}
}

// rewrite applies windash, the encodings and the affixes in their order. What windash leaves open is written out while it is little.
func rewrite(p pattern, words []string) ([]pattern, error) {
	out := []pattern{p}
	for _, w := range words {
		switch w {
		case "windash":
			for i := range out {
				out[i] = out[i].windash()
			}
		case "contains", "startswith", "endswith":
			for i := range out {
				out[i] = out[i].open(w != "startswith", w != "endswith")
			}
		default:
			var err error
			if out, err = encoded(w, out); err != nil {
				return nil, err
			}
		}
	}
	var all []pattern
	for _, p := range out {
		if n := p.dashes(); n > 0 && n <= maxDashes {
			all = append(all, p.spread()...)
		} else {
			all = append(all, p)
		}
	}
	if len(all) > maxVariants {
		return nil, errVariants
	}
	return all, nil
}

var (
	errVariants = fmt.Errorf("the value has more than %d variants; write fewer of them out", maxVariants)
	errTooBig   = fmt.Errorf("the rule is too large: more than %d values and conditions", maxRuleSize)
)

// encoded applies one encoding. Those to UTF-16 leave wildcards where they are, as pySigma does; what base64 makes of one nobody knows.
func encoded(word string, in []pattern) ([]pattern, error) {
	var all []pattern
	for _, p := range in {
		if n := p.dashes(); n > 5 || len(all) > maxVariants {
			return nil, errVariants
		}
		all = append(all, p.spread()...)
	}
	if !strings.HasPrefix(word, "base64") {
		for i, p := range all {
			all[i] = p.wide(word)
		}
		return all, nil
	}
	var out []pattern
	for _, p := range all {
		s, ok := p.plain()
		if !ok {
			return nil, fmt.Errorf(`%s cannot encode wildcards: write \* and \? for the characters, and contains behind %s`, word, word)
		}
		texts, err := encode(word, s)
		if err != nil {
			return nil, err
		}
		for _, t := range texts {
			out = append(out, parseLiteral(t))
		}
	}
	if len(out) > maxVariants {
		return nil, errVariants
	}
	return out, nil
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// regex adds a regular expression. It may match anywhere in the value.
func (c *compiler) regex(g *group, t *target, ch chain, s string) error {
	if len(s) > maxRegex {
		return fmt.Errorf("the regular expression has %d bytes; at most %d are allowed", len(s), maxRegex)
	}
	for _, w := range ch.rewrite {
		switch w {
		case "startswith":
			s = `\A(?:` + s + `)`
		case "endswith":
			s = `(?:` + s + `)\z`
		}
	}
	if ch.flags != "" {
		s = "(?" + ch.flags + ")" + s
	}
	if _, err := regexp.Compile(s); err != nil {
		return fmt.Errorf("cannot use the regular expression: %w (look-around, back references and possessive quantifiers do not exist here, nor in Sigma)", err)
	}
	c.addRegex(g, t, s)
	return nil
}

func (c *compiler) addRegex(g *group, t *target, s string) {
	if !c.scope.element {
		g.add(t.pred(match.Regex, false, c.intern(s)))
		return
	}
	// Array members are judged by the plain interpreter, which compiles a pattern each time that it is asked.
	re := regexp.MustCompile(s)
	g.other = append(g.other, &match.Func{Name: fmt.Sprintf("%q matches %q", t.id(), s), Eval: func(ev *audit.Event) bool {
		hit := false
		t.values(ev, func(v string) bool { hit = re.MatchString(v); return !hit })
		return hit
	}})
}

func network(g *group, t *target, s string) error {
	s = strings.TrimSpace(s)
	_, err := netip.ParsePrefix(s)
	if err != nil {
		if _, one := netip.ParseAddr(s); one != nil {
			return fmt.Errorf("a network such as 10.0.0.0/8 or fe80::/10 is expected, not %.60q", s)
		}
	}
	g.add(t.pred(match.CIDR, false, s))
	return nil
}

// expand puts the values of %placeholders% in. A backslash takes a percent sign literally.
func (c *compiler) expand(s string) ([]string, error) {
	out := []string{""}
	put := func(texts ...string) error {
		if len(out)*len(texts) > maxVariants {
			return errVariants
		}
		next := make([]string, 0, len(out)*len(texts))
		for _, o := range out {
			for _, t := range texts {
				next = append(next, o+t)
			}
		}
		out = next
		return nil
	}
	for s != "" {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			return out, put(s)
		}
		if i > 0 && s[i-1] == '\\' {
			if err := put(s[:i-1] + "%"); err != nil {
				return nil, err
			}
			s = s[i+1:]
			continue
		}
		n := strings.IndexByte(s[i+1:], '%')
		if n <= 0 || strings.ContainsAny(s[i+1:i+1+n], ` \`) {
			if err := put(s[:i+1]); err != nil {
				return nil, err
			}
			s = s[i+1:]
			continue
		}
		name := s[i+1 : i+1+n]
		values := c.o.Placeholders[name]
		if len(values) == 0 {
			return nil, &nearError{fmt.Sprintf("placeholder %%%.60s%% has no values here; set them, or the rule stays out", name),
				rule.Nearest(name, slices.Sorted(maps.Keys(c.o.Placeholders)))}
		}
		if err := cmpErr(put(s[:i]), nil); err != nil {
			return nil, err
		}
		if err := put(values...); err != nil {
			return nil, err
		}
		s = s[i+n+2:]
	}
	return out, nil
}
