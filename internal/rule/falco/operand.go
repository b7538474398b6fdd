package falco

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// operand is a field or functions over fields, ready to be asked. Immutable, safe for concurrent use.
type operand struct {
	name   string // canonical
	list   bool
	number bool // its values are counts
	always bool
	level  int    // in levels
	path   string // see field.path; "" for others
	field  *match.Field
	get    func(ev *audit.Event, yield func(string) bool)
}

// levels in order; their places are what operand.level counts in.
var levels = [...]audit.Level{audit.LevelMetadata, audit.LevelRequest, audit.LevelRequestResponse}

// maxTerm bounds a field with its argument, or functions over fields, in bytes.
const maxTerm = 4096

// operand makes an operand, or gives the one made before of the same text.
func (c *compiler) operand(t *term) (*operand, *syntaxError) {
	name := t.String()
	if len(name) > maxTerm {
		return nil, &syntaxError{at: t.at, text: fmt.Sprintf("longer than %d bytes", maxTerm)}
	}
	if o := c.operands[name]; o != nil {
		return o, nil
	}
	var o *operand
	var err *syntaxError
	switch t.kind {
	case fieldTerm:
		o, err = c.fieldOperand(t)
	case callTerm:
		o, err = c.callOperand(t)
	case textTerm:
		s := t.text
		o = &operand{get: func(_ *audit.Event, yield func(string) bool) { yield(s) }}
	case tupleTerm:
		o, err = c.tupleOperand(t)
	}
	if err != nil {
		return nil, err
	}
	o.name = name
	if o.path == "" {
		prefix := fieldPrefix
		if c.read.upstream {
			prefix = upstreamPrefix
		}
		o.field = &match.Field{Name: prefix + name, Values: o.get}
	}
	c.operands[name] = o
	return o, nil
}

// String is the term as it is written, without needless blanks.
func (t *term) String() string {
	switch t.kind {
	case textTerm:
		return strconv.Quote(t.text)
	case fieldTerm:
		return t.name + t.bracketed()
	}
	args := make([]string, len(t.args))
	for i, a := range t.args {
		args[i] = a.String()
	}
	return t.name + "(" + strings.Join(args, ",") + ")" + t.bracketed()
}

// bracketed is the argument in its brackets; in quotes where it could be taken for more than that.
func (t *term) bracketed() string {
	switch {
	case !t.hasArg:
		return ""
	case strings.ContainsAny(t.arg, `]"`):
		return "[" + strconv.Quote(t.arg) + "]"
	}
	return "[" + t.arg + "]"
}

// fieldOperand looks a field up and checks its argument.
func (c *compiler) fieldOperand(t *term) (*operand, *syntaxError) {
	f := fields[t.name]
	if f == nil {
		return nil, &syntaxError{at: t.at, text: fmt.Sprintf("unknown field %.100q", t.name), near: rule.Nearest(t.name, fieldNames)}
	}
	a := arg{key: t.arg, index: -1}
	switch {
	case f.arg == noArg && t.hasArg:
		return nil, &syntaxError{at: t.at, text: fmt.Sprintf("field %s takes no argument", t.name)}
	case f.arg == keyArg && (!t.hasArg || t.arg == ""):
		return nil, &syntaxError{at: t.at, text: fmt.Sprintf("field %s needs an argument: %s[…]", t.name, t.name)}
	case f.arg == indexArg && t.hasArg:
		n, err := strconv.ParseUint(t.arg, 10, 64)
		if err != nil || len(t.arg) > 1 && t.arg[0] == '0' || !isDigit(t.arg[0]) {
			return nil, &syntaxError{at: t.at, text: fmt.Sprintf("field %s: %.60q is no index; digits without a leading 0 are expected", t.name, t.arg)}
		}
		a.index = int(min(n, 1<<31-1))
	}
	if f.get == nil && f.path == "" {
		f = pointerField(t.arg)
	}
	o := &operand{list: f.list, number: f.number, always: f.always, level: slices.Index(levels[:], f.level), path: f.path}
	get := f.get
	if get != nil && (a.index >= 0 || c.read.upstream) {
		o.path = ""
	}
	if get == nil {
		get = pathValues(f.path, f.list)
	}
	read := c.read
	o.get = func(ev *audit.Event, yield func(string) bool) { get(read, ev, a, yield) }
	return o, nil
}

// collect gathers an operand's values; nil where there are none.
func (o *operand) collect(ev *audit.Event) (out []string) {
	o.get(ev, func(s string) bool { out = append(out, s); return true })
	return out
}

// changes are the functions of one value. They report false where the value cannot be changed.
var changes = map[string]func(string) (string, bool){
	"tolower":  func(s string) (string, bool) { return asciiCase(s, 'A', 'Z'), true },
	"toupper":  func(s string) (string, bool) { return asciiCase(s, 'a', 'z'), true },
	"basename": func(s string) (string, bool) { return s[strings.LastIndexByte(s, '/')+1:], true },
	"b64": func(s string) (string, bool) {
		b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
		return string(b), err == nil
	},
}

// asciiCase changes the case of the letters from lo to hi.
func asciiCase(s string, lo, hi byte) string {
	for i := range len(s) {
		if s[i] >= lo && s[i] <= hi {
			b := []byte(s)
			for ; i < len(b); i++ {
				if b[i] >= lo && b[i] <= hi {
					b[i] ^= 0x20
				}
			}
			return string(b)
		}
	}
	return s
}

func (c *compiler) callOperand(t *term) (*operand, *syntaxError) {
	args := make([]*operand, len(t.args))
	level := 0
	for i, a := range t.args {
		o, err := c.operand(a)
		if err != nil {
			return nil, err
		}
		args[i], level = o, max(level, o.level)
	}
	wrong := func(format string, a ...any) (*operand, *syntaxError) {
		return nil, &syntaxError{at: t.at, text: t.name + "(): " + fmt.Sprintf(format, a...)}
	}
	first := args[0]
	if change := changes[t.name]; change != nil {
		if first.number {
			return wrong("a text is expected, not a number")
		}
		return &operand{list: first.list, level: level, get: changed(first, change)}, nil
	}
	switch t.name {
	case "len":
		if first.number {
			return wrong("a text or a list is expected, not a number")
		}
		return &operand{number: true, level: level, get: length(first)}, nil
	case "concat":
		if len(args) < 2 || slices.ContainsFunc(args, func(o *operand) bool { return o.list || o.number }) {
			return wrong("two or more texts are expected")
		}
		return &operand{level: level, get: concat(args)}, nil
	case "join":
		if len(args) != 2 || first.list || first.number || !args[1].list {
			return wrong("a text that parts, and a list, are expected")
		}
		return &operand{level: level, get: join(first, args[1])}, nil
	}
	if len(args) != 2 || !first.list || args[1].list || args[1].number { // getopt
		return wrong("a list and a text that names the options are expected")
	}
	if t.hasArg && len(t.arg) != 1 {
		return wrong("%.60q: one option's letter is expected", t.arg)
	}
	return &operand{list: !t.hasArg, level: level, get: getopt(first, args[1], t.arg)}, nil
}

// tupleOperand is a list of terms; each must have one value.
func (c *compiler) tupleOperand(t *term) (*operand, *syntaxError) {
	o := &operand{list: true}
	var parts []*operand
	for _, a := range t.args {
		p, err := c.operand(a)
		if err != nil {
			return nil, err
		}
		if p.list {
			return nil, &syntaxError{at: a.at, text: "a list within a list is not expected"}
		}
		parts, o.level = append(parts, p), max(o.level, p.level)
	}
	o.get = func(ev *audit.Event, yield func(string) bool) {
		var out []string
		size := 0
		for _, p := range parts {
			v := p.collect(ev)
			if len(v) == 0 {
				return
			}
			if size += len(v[0]); size > maxJoined {
				return
			}
			out = append(out, v[0])
		}
		give(out, yield)
	}
	return o, nil
}

type getter = func(ev *audit.Event, yield func(string) bool)

// changed applies a function to every value. Where one cannot be changed, there is none.
func changed(o *operand, change func(string) (string, bool)) getter {
	return func(ev *audit.Event, yield func(string) bool) {
		out := o.collect(ev)
		for i, v := range out {
			w, ok := change(v)
			if !ok {
				return
			}
			out[i] = w
		}
		give(out, yield)
	}
}

// length is the number of a list's values, or of a text's bytes.
func length(o *operand) getter {
	return func(ev *audit.Event, yield func(string) bool) {
		n, first := 0, 0
		o.get(ev, func(s string) bool { n++; first = len(s); return o.list })
		switch {
		case n == 0:
		case o.list:
			yield(strconv.Itoa(n))
		default:
			yield(strconv.Itoa(first))
		}
	}
}

// maxJoined bounds what concat, join and lists of terms make, in bytes: a rule may name the whole event many times, and an event may have very many values.
// Beyond it they give nothing.
const maxJoined = 8 << 20

func concat(args []*operand) getter {
	return func(ev *audit.Event, yield func(string) bool) {
		var b strings.Builder
		for _, a := range args {
			v := a.collect(ev)
			if len(v) == 0 {
				return
			}
			if b.WriteString(v[0]); b.Len() > maxJoined {
				return
			}
		}
		yield(b.String())
	}
}

func join(sep, list *operand) getter {
	return func(ev *audit.Event, yield func(string) bool) {
		s, l := sep.collect(ev), list.collect(ev)
		if len(s) == 0 || len(l) == 0 {
			return
		}
		size := len(s[0]) * (len(l) - 1)
		for _, v := range l {
			size += len(v)
		}
		if size <= maxJoined {
			yield(strings.Join(l, s[0]))
		}
	}
}

// getopt reads short options out of a list of words as getopt(3) does: it gives each option and its argument, ? for an unknown one; with
// an option's letter, the last argument of that option, or the letter if it takes none.
func getopt(words, options *operand, only string) getter {
	return func(ev *audit.Event, yield func(string) bool) {
		o, list := options.collect(ev), words.collect(ev)
		if len(o) == 0 || len(list) == 0 {
			return
		}
		spec := strings.TrimPrefix(o[0], ":")
		var out []string
		put := func(option, value string, has bool) {
			switch {
			case only == "":
				if out = append(out, option); has {
					out = append(out, value)
				}
			case option != only:
			case has:
				out = []string{value}
			default:
				out = []string{option}
			}
		}
		for i := 0; i < len(list); i++ {
			w := list[i]
			if strings.HasPrefix(w, "--") && len(w) > 2 {
				continue
			}
			if len(w) < 2 || w[0] != '-' || w == "--" {
				break
			}
			i += cluster(w, list[i+1:], spec, only == "", put)
		}
		give(out, yield)
	}
}

// cluster reads the options of one word and says how many of the next words it used.
func cluster(w string, next []string, spec string, unknown bool, put func(option, value string, has bool)) int {
	for j := 1; j < len(w); j++ {
		at := strings.IndexByte(spec, w[j])
		if w[j] == ':' || at < 0 {
			if unknown {
				put("?", "", false)
			}
			continue
		}
		option := w[j : j+1]
		if !strings.HasPrefix(spec[at+1:], ":") {
			put(option, "", false)
			continue
		}
		switch {
		case j+1 < len(w):
			put(option, w[j+1:], true)
		case len(next) > 0:
			put(option, next[0], true)
			return 1
		case unknown:
			put("", "", false)
		default:
			put(option, "", true)
		}
		return 0
	}
	return 0
}
