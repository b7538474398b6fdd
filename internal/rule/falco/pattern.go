package falco

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"

	"whodunit/internal/match"
)

// Bounds on regular expressions: a short one can be huge, and what is refused has been made first.
const (
	maxRegex    = 4096       // bytes
	maxInsts    = 20_000     // of one program
	maxAllInsts = 20_000_000 // of all
	maxRegexes  = 100_000    // that one load remembers having checked
)

// regex is a predicate with an RE2 pattern. written is what the rule has.
func (c *compiler) regex(o *operand, pattern, written string, at int) (match.Expr, *syntaxError) {
	err, known := c.regexes[pattern]
	if !known {
		if err = c.checkRegex(pattern, written); len(c.regexes) < maxRegexes {
			c.regexes[pattern] = err
		}
	}
	if err != nil {
		text := strings.TrimPrefix(err.Error(), "error parsing regexp: ")
		return nil, &syntaxError{at: at, text: fmt.Sprintf("%.60q is no regular expression: %s", written, text)}
	}
	return o.pred(match.Regex, false, pattern), nil
}

func (c *compiler) checkRegex(pattern, written string) error {
	if len(written) > maxRegex {
		return fmt.Errorf("longer than %d bytes", maxRegex)
	}
	if c.insts > maxAllInsts {
		return errors.New("all regular expressions together are too large")
	}
	if _, err := syntax.Parse(written, syntax.Perl); err != nil {
		return err
	}
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return err
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return err
	}
	if c.insts += len(prog.Inst); len(prog.Inst) > maxInsts {
		return fmt.Errorf("it has more than %d steps", maxInsts)
	}
	return nil
}

// fullMatch makes a pattern match the whole value, as Falco does. ^ and $ stand at the ends of lines, as in RE2's POSIX mode.
func fullMatch(pattern string) string { return `\A(?m:` + pattern + `)\z` }

// glob is a predicate with a pattern of fnmatch(3): * ? [ ] and \.
func (c *compiler) glob(o *operand, pattern string, fold bool, at int) (match.Expr, *syntaxError) {
	if n := len(pattern) - len(strings.TrimRight(pattern, `\`)); n%2 == 1 {
		return match.Const(false), nil // fnmatch refuses a backslash with nothing behind it
	}
	if !strings.Contains(pattern, "[") {
		return o.pred(match.Glob, fold, pattern), nil
	}
	flags := "(?s)"
	if fold {
		flags = "(?si)"
	}
	return c.regex(o, flags+`\A`+globRegex(pattern, false)+`\z`, globRegex(pattern, false), at)
}

// globRegex turns a pattern of fnmatch(3) into a regular expression. In a part of a path * and ? stop at slashes.
func globRegex(pattern string, part bool) string {
	run, one := `.*`, `.`
	if part {
		run, one = `[^/]*`, `[^/]`
	}
	var b strings.Builder
	for i := 0; i < len(pattern); {
		switch c := pattern[i]; c {
		case '*':
			b.WriteString(run)
		case '?':
			b.WriteString(one)
		case '[':
			class, end := bracket(pattern, i)
			if end > 0 {
				b.WriteString(class)
				i = end
				continue
			}
			b.WriteString(`\[`)
		case '\\':
			if i+1 < len(pattern) {
				i++
			}
			fallthrough
		default:
			n := 1
			for i+n < len(pattern) && pattern[i+n] >= 0x80 && pattern[i] >= 0x80 {
				n++
			}
			b.WriteString(regexp.QuoteMeta(pattern[i : i+n]))
			i += n
			continue
		}
		i++
	}
	return b.String()
}

// bracket reads a set of characters that begins at i: a regular expression for it and where it ends, 0 if it has no end.
func bracket(p string, i int) (class string, end int) {
	var b strings.Builder
	b.WriteByte('[')
	i++
	if i < len(p) && (p[i] == '!' || p[i] == '^') {
		b.WriteByte('^')
		i++
	}
	for first := true; i < len(p); first = false {
		switch c := p[i]; {
		case c == ']' && !first:
			b.WriteByte(']')
			class = b.String()
			if _, err := syntax.Parse(class, syntax.Perl); err != nil {
				return "", 0
			}
			return class, i + 1
		case strings.HasPrefix(p[i:], "[:") && strings.Contains(p[i+2:], ":]"):
			n := strings.Index(p[i+2:], ":]") + 4
			b.WriteString(p[i : i+n])
			i += n
			continue
		case c == '-':
			b.WriteByte('-')
		case c == '\\' && i+1 < len(p):
			if i++; p[i] < 0x80 && !isLetter(p[i]) && !isDigit(p[i]) {
				b.WriteByte('\\')
			}
			b.WriteByte(p[i])
		case strings.IndexByte(`[]^&~\`, c) >= 0:
			b.WriteString(`\` + p[i:i+1])
		default:
			b.WriteByte(c)
		}
		i++
	}
	return "", 0
}

// pathPart is one part of a path, which is a pattern only if it has a character of one.
func pathPart(part string) string {
	if strings.ContainsAny(part, "?*[") {
		return globRegex(part, true)
	}
	return regexp.QuoteMeta(part)
}

// pathPrefixes: the value is one of the paths or lies below it. * and ? in them match within a part of the path.
func (c *compiler) pathPrefixes(o *operand, paths []string, at int) (match.Expr, *syntaxError) {
	if len(paths) == 0 {
		return match.Const(false), nil
	}
	if len(paths) > maxModified {
		return nil, &syntaxError{at: at, text: fmt.Sprintf("more than %d paths", maxModified)}
	}
	patterns := make([]string, len(paths))
	for i, p := range paths {
		pattern, slash := `(?s)\A`, `/*`
		for part := range strings.SplitSeq(p, "/") {
			if part != "" {
				pattern += slash + pathPart(part)
				slash = `/+`
			}
		}
		patterns[i] = pattern + `(?:/|\z)`
		if strings.Trim(p, "/") == "" {
			patterns[i] = `\A`
		}
		if _, err := c.regex(o, patterns[i], patterns[i], at); err != nil {
			return nil, err
		}
	}
	return o.pred(match.Regex, false, patterns...), nil
}
