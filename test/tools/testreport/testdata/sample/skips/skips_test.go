package skips

import "testing"

func TestMissing(t *testing.T) { t.Skip("SKIPPED: no testcluster here") }

func TestOther(t *testing.T) { t.Skip("only as root") }

func TestFine(t *testing.T) {}
