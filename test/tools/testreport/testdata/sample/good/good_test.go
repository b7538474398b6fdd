package good

import "testing"

func TestA(t *testing.T) { t.Log("chatter") }

func TestB(t *testing.T) {}
