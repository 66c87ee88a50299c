"""Words of other programs lead to options and commands that there are."""

from poolformer.cli import dispatch, field_words


def test_words_lead_to_commands_that_there_are():
    known = {*dispatch.VERBS, *dispatch.COMMANDS}
    assert {each.split()[0] for each in field_words.COMMANDS.values()} <= known
    assert not known & field_words.COMMANDS.keys()
