"""Who is told of what: the words of a notice (`texts`), the steps that leave rows where they are (`fates`), and its way to people (`sending`)."""
