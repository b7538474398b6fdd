package parseable

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"whodunit/internal/rule"
)

// What a target does that does not say how often it repeats.
const (
	defaultInterval = 200 * time.Second
	defaultTimes    = 5
	endless         = -1
)

// targets reads where the alert goes. Endpoints are not looked at: templates with placeholders are files as well.
func (l *reader) targets(alert, n *yaml.Node) (out []rule.Target) {
	if n == nil || n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		l.Fail(alert, "", "no targets; a list with at least one is expected")
		return nil
	}
	fields := map[string][]string{
		"slack":        {"type", "endpoint", "repeat"},
		"webhook":      {"type", "endpoint", "headers", "skip_tls_check", "repeat"},
		"alertmanager": {"type", "endpoint", "skip_tls_check", "username", "password", "repeat"},
	}
	for _, c := range n.Content {
		c = rule.Resolve(c)
		kind := rule.Member(c, "type")
		if kind == nil || fields[kind.Value] == nil {
			at, word := c, ""
			if kind != nil {
				at, word = kind, kind.Value
			}
			l.Fail(at, rule.Nearest(word, []string{"slack", "webhook", "alertmanager"}), "target type %.40q: slack, webhook or alertmanager is expected", word)
			continue
		}
		out = append(out, l.target(c, kind.Value, fields[kind.Value]))
	}
	return out
}

func (l *reader) target(n *yaml.Node, kind string, fields []string) rule.Target {
	m := l.Members(n, kind+" target", fields...)
	t := rule.Target{Type: kind, Interval: defaultInterval, Times: defaultTimes}
	if kind == "alertmanager" {
		t.Times = endless
	}
	t.Endpoint, _ = l.text(n, m, "endpoint")
	if m["username"] != nil {
		t.Username, _ = l.text(n, m, "username")
	}
	if m["password"] != nil {
		t.Password, _ = l.text(n, m, "password")
	}
	if v := m["skip_tls_check"]; v != nil {
		if v.Tag != "!!bool" {
			l.Fail(v, "", "skip_tls_check: true or false is expected")
		}
		t.SkipTLSCheck = strings.EqualFold(v.Value, "true")
	}
	if v := m["headers"]; v != nil {
		t.Headers = l.headers(v)
	}
	if v := m["repeat"]; v != nil {
		l.repeat(v, &t)
	}
	return t
}

// headers reads a mapping of texts. No problem shows a value: it may be a secret.
func (l *reader) headers(n *yaml.Node) map[string]string {
	if n.Kind != yaml.MappingNode {
		l.Fail(n, "", "headers: a mapping is expected")
		return nil
	}
	out := map[string]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		v := rule.Resolve(n.Content[i+1])
		if v.Kind != yaml.ScalarNode || v.Tag == "!!null" {
			l.Fail(v, "", "header %.60q: a text is expected", n.Content[i].Value)
		}
		out[n.Content[i].Value] = v.Value
	}
	return out
}

func (l *reader) repeat(n *yaml.Node, t *rule.Target) {
	m := l.Members(n, "repeat", "interval", "times")
	if v := m["interval"]; v != nil {
		d, err := parseInterval(v.Value)
		if err != nil || d < 0 {
			l.Fail(v, "", "interval %.40q: a duration such as 30s or 10m is expected", v.Value)
		}
		t.Interval = d
	}
	if v := m["times"]; v != nil {
		i, err := strconv.Atoi(v.Value)
		if err != nil || i < 0 {
			l.Fail(v, "", "times %.40q: a whole number is expected", v.Value)
		}
		t.Times = i
	}
}

// parseInterval reads "30s", "1h 30m": Go's durations with spaces, and d for days.
func parseInterval(s string) (time.Duration, error) {
	s = strings.ReplaceAll(s, " ", "")
	if d, ok := strings.CutSuffix(s, "d"); ok {
		n, err := time.ParseDuration(d + "h")
		if n > math.MaxInt64/24 {
			err = strconv.ErrRange
		}
		return 24 * n, err
	}
	return time.ParseDuration(s)
}

// operators are the symbol and the words of each, by all its names.
var operators = map[string][2]string{
	"exact": {"=", "equal to"}, "notExact": {"!=", "not equal to"}, "contains": {"=%", "containing"}, "notContains": {"!%", "not containing"}, "regex": {"~", "matching"},
	"equalTo": {"=", "equal to"}, "notEqualTo": {"!=", "not equal to"}, "greaterThan": {">", "greater than"}, "greaterThanEquals": {">=", "greater than or equal to"},
	"lessThan": {"<", "less than"}, "lessThanEquals": {"<=", "less than or equal to"},
	"=": {"=", "equal to"}, "!=": {"!=", "not equal to"}, "=%": {"=%", "containing"}, "!%": {"!%", "not containing"}, "~": {"~", "matching"},
	">": {">", "greater than"}, ">=": {">=", "greater than or equal to"}, "<": {"<", "less than"}, "<=": {"<=", "less than or equal to"},
}

// operator is the symbol and the words of a comparison's, which leaf has checked.
func operator(leaf *yaml.Node) (symbol, words string) {
	name := "contains"
	if v := rule.Member(leaf, "value"); v.Tag != "!!str" {
		name = "equalTo"
	}
	if o := rule.Member(leaf, "operator"); o != nil {
		name = o.Value
	}
	return operators[name][0], operators[name][1]
}

// words is the failing condition for people, of a rule without problems: of a column rule in words, of a composite one its expression. Targets of
// Alertmanager get their labels.
func (l *reader) words(n *yaml.Node, targets []rule.Target, repeats int) (text string) {
	config := rule.Resolve(rule.Member(n, "config"))
	labels := map[string]string{"rule_type": rule.Member(n, "type").Value}
	switch {
	case labels["rule_type"] == "column":
		column, value := rule.Member(config, "column").Value, rule.Member(config, "value").Value
		symbol, words := operator(config)
		text = fmt.Sprintf("%s column %s %s, %d times", column, words, value, repeats)
		if repeats == 1 {
			text = strings.TrimSuffix(text, "s")
		}
		labels["rule_config_column"], labels["rule_config_operator"], labels["rule_config_value"] = column, symbol, value
		labels["rule_config_repeats"] = strconv.Itoa(repeats)
	case config.Kind == yaml.ScalarNode:
		text = strings.TrimSpace(config.Value)
		labels["rule_config"] = text
	default:
		text = expression(config)
		labels["rule_config"] = text
	}
	for i := range targets {
		if targets[i].Type == "alertmanager" {
			targets[i].Labels = labels
		}
	}
	return text
}

// expression writes the JSON form of a composite rule as its text. What the text cannot say, ignoreCase, is left out.
func expression(n *yaml.Node) string {
	n = rule.Resolve(n)
	v := rule.Resolve(n.Content[1])
	switch word := n.Content[0].Value; word {
	case "and", "or":
		parts := make([]string, len(v.Content))
		for i, c := range v.Content {
			parts[i] = expression(c)
		}
		return "(" + strings.Join(parts, " "+word+" ") + ")"
	case "not":
		return "!(" + expression(v) + ")"
	case "numeric":
		symbol, _ := operator(v)
		return rule.Member(v, "column").Value + " " + symbol + " " + rule.Member(v, "value").Value
	}
	symbol, _ := operator(v)
	escaped := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "\b", `\b`, "\f", `\f`).Replace(rule.Member(v, "value").Value)
	return rule.Member(v, "column").Value + " " + symbol + ` "` + escaped + `"`
}
