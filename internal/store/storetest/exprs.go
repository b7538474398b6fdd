package storetest

import (
	"strings"

	"pgregory.net/rapid"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

var paths = []string{"cluster", "peer", "auditID", "stage", "level", "verb", "requestURI", "userAgent", "user.username", "user.uid", "user.groups",
	"impersonatedUser.username", "impersonatedUser.groups", "sourceIPs", "objectRef", "objectRef.apiGroup", "objectRef.apiVersion", "objectRef.resource",
	"objectRef.subresource", "objectRef.namespace", "objectRef.name", "responseStatus.code", "responseStatus.reason", "annotations.authorization.k8s.io/decision",
	"annotations.authorization.k8s.io/reason", "rule", "severity", "stageTimestamp", "requestReceivedTimestamp", "requestObject.spec.replicas",
	"requestObject.spec.hostNetwork", "requestObject.spec.containers.image", "requestObject.metadata.labels.app.kubernetes.io/name", "requestObject.op", "note",
	"user", "nothing.here", "kind", "annotations", ""}

// Exprs generates expressions whose constants are often found in the records.
func Exprs(records []audit.Record) *rapid.Generator[match.Expr] {
	return rapid.Custom(func(t *rapid.T) match.Expr { return expr(t, records, 3) })
}

func expr(t *rapid.T, records []audit.Record, depth int) match.Expr {
	kind := rapid.IntRange(0, 9).Draw(t, "kind")
	if depth == 0 && kind < 4 {
		kind = 9
	}
	switch kind {
	case 0, 1:
		return match.And(parts(t, records, depth))
	case 2:
		return match.Or(parts(t, records, depth))
	case 3:
		return match.Not{X: expr(t, records, depth-1)}
	case 4:
		if rapid.IntRange(0, 9).Draw(t, "const") == 0 {
			return match.Const(rapid.Bool().Draw(t, "value"))
		}
		return text(t, records)
	}
	return pred(t, records)
}

func parts(t *rapid.T, records []audit.Record, depth int) []match.Expr {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) match.Expr { return expr(t, records, depth-1) }), 0, 3).Draw(t, "parts")
}

func text(t *rapid.T, records []audit.Record) match.Expr {
	word := rapid.SampledFrom([]string{"secret", "secrets", "kube", "kelvin", "café", "nginx:1.27", "-0000-", "straße", "σίσυφος", "x", "y", "alice", "allow", "true", "7d9f", "kubectl", "absent"}).Draw(t, "word")
	if rapid.Bool().Draw(t, "own") {
		rec := rapid.SampledFrom(records).Draw(t, "record")
		var words []string
		match.EventTokens(rec.Event.Raw, func(w string) bool { words = append(words, w); return true })
		word = rapid.SampledFrom(words).Draw(t, "token")
	}
	open := rapid.Bool().Draw(t, "open")
	if r := []rune(word); open && len(r) > 1 {
		word = string(r[:1+rapid.IntRange(0, len(r)-1).Draw(t, "cut")])
	}
	return &match.Text{Word: match.Fold(word), Open: open}
}

// ops are those of searches; Regex is for rules.
var ops = []match.Op{match.Exists, match.Equal, match.Contains, match.Prefix, match.Suffix, match.Glob, match.Less, match.LessEqual, match.Greater,
	match.GreaterEqual, match.CIDR, match.Present}

func pred(t *rapid.T, records []audit.Record) match.Expr {
	p := &match.Pred{Path: rapid.SampledFrom(paths).Draw(t, "path"), Op: rapid.SampledFrom(ops).Draw(t, "op"), Fold: rapid.Bool().Draw(t, "fold"),
		All: rapid.IntRange(0, 4).Draw(t, "all") == 0}
	if p.Op == match.Exists || p.Op == match.Present {
		return p
	}
	n := 1
	if p.Op <= match.Glob {
		n = rapid.IntRange(1, 2).Draw(t, "constants")
	}
	for range n {
		p.Values = append(p.Values, constant(t, records, p))
	}
	return p
}

func constant(t *rapid.T, records []audit.Record, p *match.Pred) string {
	if p.Op == match.CIDR {
		return rapid.SampledFrom([]string{"0.0.0.0/0", "10.0.0.0/8", "127.0.0.1", "::/0"}).Draw(t, "network")
	}
	v := rapid.SampledFrom([]string{"", "get", "alice", "200", "3", "allow", "absent", "*", "2026-01-02T03:05:00Z"}).Draw(t, "constant")
	if rapid.IntRange(0, 3).Draw(t, "own") > 0 {
		var vs []string
		rec := rapid.SampledFrom(records).Draw(t, "record")
		for s := range match.Values(&rec.Event, p.Path) {
			vs = append(vs, s)
		}
		if len(vs) > 0 {
			v = rapid.SampledFrom(vs).Draw(t, "value")
		}
	}
	if r := []rune(v); len(r) > 0 {
		from := rapid.IntRange(0, len(r)-1).Draw(t, "from")
		to := rapid.IntRange(from, len(r)).Draw(t, "to")
		switch p.Op {
		case match.Prefix:
			v = string(r[:to])
		case match.Suffix:
			v = string(r[from:])
		case match.Contains:
			v = string(r[from:to])
		case match.Glob:
			v = string(r[:from]) + "*" + string(r[to:])
		}
	}
	if p.Fold && rapid.Bool().Draw(t, "upper") {
		v = strings.ToUpper(v)
	}
	return v
}
